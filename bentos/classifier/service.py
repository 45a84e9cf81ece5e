"""The BentoML service: one FastAPI app mounted at `/`, one model and one inference thread a worker.

`/healthz`, `/livez` and `/docs.json` are BentoML's own. A worker begins with the model that the Bento was packaged
with, under the alias `trained`.
"""

import gc
import logging
from dataclasses import dataclass
from pathlib import Path

import bentoml
from bentoml._internal.server.http import traffic

from bentos.classifier.access import Access, read_keys
from bentos.classifier.app import make_app
from bentos.classifier.classifying import Classifying
from bentos.classifier.crew import Crew
from bentos.classifier.deadline import Deadline
from bentos.classifier.express import Express
from bentos.classifier.guard import BodyLimit, OneErrorShape
from bentos.classifier.metrics import Exposed, Metered, Metrics
from bentos.classifier.rate_limit import RateLimit
from bentos.classifier.readiness import Readiness
from bentos.classifier.settings import ServiceSettings, said
from bentos.classifier.worker import Worker

MODEL_ALIAS = "trained"  # tasks/packaging.py ties it to one version in the Bento


@dataclass
class Shared:
    """What a worker's middleware needs: nothing until the worker has started."""

    crew: Crew | None = None
    metrics: Metrics | None = None
    limit: RateLimit | None = None


log = logging.getLogger(__name__)

traffic.TimeoutMiddleware = Deadline  # `deadline.py` says why; BentoML is pinned, and a test asks who is in the stack

try:
    settings = ServiceSettings()
    keys = read_keys(settings.keys.get_secret_value())
except ValueError as error:  # BentoML would hide it behind a module that it then can't find
    raise SystemExit(said(error)) from None
_bound: list[Worker] = []  # one in each worker process, none in the one that starts them
_shared = Shared()
classifying = Classifying(lambda: _bound[0], settings)
app = make_app(classifying)


@bentoml.service(
    name="classifier",
    workers=settings.workers,
    traffic={"timeout": settings.timeout},
    logging={"access": {"enabled": False}},  # a line a request costs more than a small model does
    tracing={"excluded_urls": [".*"]},  # nobody collects the spans, and they halve the throughput
    metrics={"enabled": False},  # `metrics.py` says why
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
        self.crew = Crew(settings.workers)
        metrics = Metrics(self.crew.folder / "metrics")
        limit = RateLimit(self.crew.folder / "rate", [key.id for key in keys], settings.rate, settings.burst)
        known = (stored.info.labels, stored.info.metadata)
        self.worker = start_worker(Path(stored.path), tag, *known, settings, metrics, self.crew.folder)
        _bound[:] = [self.worker]
        _shared.crew, _shared.metrics, _shared.limit = self.crew, metrics, limit if settings.rate else None
        if not keys:
            log.warning("no API keys are set: this service answers its own machine only")
            if settings.rate:
                log.warning("FLYWHEEL_SERVICE_RATE counts by API key and none is set: nobody is limited")
        gc.collect()
        gc.freeze()  # a full collection over torch's objects would stop the worker for 0.3 s
        metrics.start()
        self.crew.note_ready()

    @bentoml.on_shutdown
    def stop(self) -> None:
        self.worker.close()
        if _shared.metrics is not None:
            _shared.metrics.close()
        self.crew.leave()


# the first is the outermost
Classifier.add_asgi_middleware(Metered, metrics=lambda: _shared.metrics)
Classifier.add_asgi_middleware(Access, keys=keys, limit=lambda: _shared.limit)
Classifier.add_asgi_middleware(Exposed, metrics=lambda: _shared.metrics)
Classifier.add_asgi_middleware(Readiness, crew=lambda: _shared.crew)
Classifier.add_asgi_middleware(OneErrorShape)
Classifier.add_asgi_middleware(BodyLimit, largest_body=settings.largest_body, most_held=settings.most_held)
Classifier.add_asgi_middleware(Express, classifying=classifying)
