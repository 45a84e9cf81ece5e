"""The BentoML service: one FastAPI app mounted at `/`, one model and one inference thread a worker.

`/healthz`, `/livez`, `/readyz`, `/metrics` and `/docs.json` are BentoML's own. The model is the one that the Bento was
packaged with, under the alias `trained`.
"""

import gc
from pathlib import Path

import bentoml

from bentos.classifier.app import make_app
from bentos.classifier.guard import BodyLimit, OneErrorShape
from bentos.classifier.settings import ServiceSettings
from bentos.classifier.worker import Worker

MODEL_ALIAS = "trained"  # tasks/packaging.py ties it to one version in the Bento

settings = ServiceSettings()
_bound: list[Worker] = []  # one in each worker process, none in the one that starts them
app = make_app(lambda: _bound[0], settings)


@bentoml.service(
    name="classifier",
    workers=settings.workers,
    traffic={"timeout": settings.timeout},
    logging={"access": {"enabled": False}},  # a line a request costs more than a small model does
    tracing={"excluded_urls": [".*"]},  # nobody collects the spans, and they halve the throughput
)
@bentoml.asgi_app(app, path="/")
class Classifier:
    """Classifies images with the model that it was packaged with."""

    def __init__(self) -> None:
        import torch

        from bentos.classifier.start import start_worker

        torch.set_num_threads(1)  # cores are used by workers; two threads on one core spin against each other
        stored = bentoml.models.get(MODEL_ALIAS)
        tag = str(Classifier.bento.tag) if Classifier.bento else ""
        self.worker = start_worker(Path(stored.path), tag, stored.info.labels, stored.info.metadata, settings)
        _bound[:] = [self.worker]
        gc.collect()
        gc.freeze()  # a full collection over torch's objects would stop the worker for 0.3 s

    @bentoml.on_shutdown
    def stop(self) -> None:
        self.worker.close()


Classifier.add_asgi_middleware(OneErrorShape)
Classifier.add_asgi_middleware(BodyLimit, largest_body=settings.largest_body, most_held=settings.most_held)
