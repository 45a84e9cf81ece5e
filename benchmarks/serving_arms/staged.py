"""The service as far as a stage: what would come behind it is answered at once, with nothing done.

`bentoml serve benchmarks.serving_arms.staged:Staged`, the stage in `SERVED_STAGE`. The code is the service's own: only
the first layer that is left out is replaced. So the CPU time of a stage less that of the one before is the layer's.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import bentoml
import numpy as np
from bentoml._internal.configuration.containers import BentoMLContainer
from starlette.responses import Response

from benchmarks.serving_arms.constant import ANSWER
from benchmarks.serving_arms.constant import app as constant
from benchmarks.serving_arms.stages import MODEL_TAG, ORDER, STAGE, Stage
from bentos.classifier import classifying, service, start
from bentos.classifier.ask import Ask
from bentos.classifier.express import Express
from bentos.classifier.predictor import Prediction, Predictor

CLASSES = tuple(f"class {number}" for number in range(10))
LOGITS = np.linspace(0, 1, len(CLASSES), dtype=np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum()


class Constant:
    """ASGI middleware that answers in place of all that is under it."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        posted = scope["type"] == "http" and scope["method"] == "POST"
        await (constant if posted else self.app)(scope, receive, send)


class AtOnce:
    """A batcher that has no model to wait for."""

    def __init__(self, *_: Any) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, asks: Sequence[Ask]) -> list["asyncio.Future[Prediction]"]:
        self._loop = self._loop or asyncio.get_running_loop()
        futures = [self._loop.create_future() for _ in asks]
        for ask, future in zip(asks, futures, strict=True):
            future.set_result(_prediction(ask))
        return futures

    def close(self) -> None:
        pass


def _prediction(ask: Ask) -> Prediction:
    return Prediction(ask.id, "model", CLASSES, LOGITS, PROBABILITIES)


def _undecoded(_: Predictor, asks: Sequence[Ask]) -> list[Prediction]:
    return [_prediction(ask) for ask in asks]


def _unclassified(predictor: Predictor, asks: Sequence[Ask]) -> list[Prediction]:
    standing = predictor.standing
    seen = [predictor._see(ask, standing) for ask in asks]
    np.concatenate([each.packed for each in seen])  # type: ignore[union-attr] - files that decode are sent
    return [_prediction(ask) for ask in asks]


def _leave_out_what_follows(stage: Stage) -> None:
    place = ORDER.index(stage)
    if stage is Stage.GUARDS:
        layers = service.Classifier.middlewares
        service.Classifier.middlewares = [(Constant, {}) if each[0] is Express else each for each in layers]
    if place < ORDER.index(Stage.BATCHER):
        start.MicroBatcher = AtOnce  # type: ignore[misc,assignment]
    if stage is Stage.UPLOAD:
        classifying._answer = lambda *_: {}
        classifying._json = lambda _: Response(ANSWER, media_type="application/json")
    if stage is Stage.BATCHER:
        Predictor.predict = _undecoded  # type: ignore[method-assign,assignment]
    if stage is Stage.DECODE:
        Predictor.predict = _unclassified  # type: ignore[method-assign,assignment]


def _framework() -> Any:
    """BentoML as the service sets it, and nothing of ours."""

    @bentoml.service(**service.Classifier.config)
    class Bare:
        pass

    Bare.add_asgi_middleware(Constant)
    return Bare


BentoMLContainer.model_aliases.set({service.MODEL_ALIAS: os.environ.get(MODEL_TAG, "")})  # a Bento brings its own
_stage = Stage(os.environ.get(STAGE, Stage.LOG))
_leave_out_what_follows(_stage)
Staged = _framework() if _stage is Stage.FRAMEWORK else service.Classifier
