"""The layers of the service that `serving_layers.py` tells apart."""

from enum import StrEnum

STAGE = "SERVED_STAGE"
MODEL_TAG = "SERVED_MODEL_TAG"  # in BentoML's store


class Stage(StrEnum):
    """Layers, from the socket inwards. `CONSTANT` is `constant.py`, which uvicorn serves by itself."""

    CONSTANT = "uvicorn: socket, HTTP, event loop"
    FRAMEWORK = "BentoML's layers"
    GUARDS = "keys, rate limit, body limit, metrics"
    UPLOAD = "reading the request"
    ANSWER = "top-k, JSON, response"
    BATCHER = "the batcher: gathering, a thread and back"
    DECODE = "header check, decoding, resizing"
    MODEL = "forward, softmax, counting"
    LOG = "the prediction log"


ORDER = tuple(Stage)
