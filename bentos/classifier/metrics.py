"""What the service counts, for Prometheus: all workers together, whichever of them is asked.

BentoML's own metrics are off: they keep a series for every path that anybody ever asked for, so a scanner could fill
the memory; and their files are shared by all services of one BentoML home, each of which wipes them when it starts.
"""

import contextlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

PATH = "/metrics"
ROUTES = ("/classify", "/classify_batch", "/feedback", "/queue", "/model", PATH, "/healthz", "/livez", "/readyz")
IMAGE_ROUTE = "/queue/{prediction_id}/image"
OTHER = "other"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)
REFRESH_SECONDS = 1.0


class Metrics:
    """One a worker. `folder` is where all workers of the service write; it must be named before the Prometheus client
    is imported, which is why that happens in here."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        import prometheus_client as prometheus

        self._folder = folder
        registry = prometheus.CollectorRegistry()
        self._registry = registry
        counter, histogram, gauge = prometheus.Counter, prometheus.Histogram, prometheus.Gauge
        self.requests = counter(
            "flywheel_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self.seconds = histogram(
            "flywheel_request_seconds", "Time to answer, by route.", ["route"], buckets=SECONDS, registry=registry
        )
        self.batch_images = histogram(
            "flywheel_batch_images", "Images that went through the model at once.", buckets=IMAGES, registry=registry
        )
        self.predictions = counter(
            "flywheel_predictions",
            "Answers by model, role and class.",
            ["model_id", "role", "label"],
            registry=registry,
        )
        self.swaps = counter("flywheel_swaps", "Times that a worker changed its champion.", registry=registry)
        self.dropped = counter("flywheel_log_dropped_rows", "Predictions that are not on record.", registry=registry)
        self.waiting = gauge(
            "flywheel_log_waiting_rows", "Rows in memory.", multiprocess_mode="livesum", registry=registry
        )
        self.spooled = gauge(
            "flywheel_log_spooled_rows",
            "Rows on this machine's disk, until the database answers again.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.resident = gauge(
            "flywheel_workers_resident_bytes", "Of all workers.", multiprocess_mode="livesum", registry=registry
        )
        self._series: dict[str, Any] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._counted: Counter[tuple[str, str, str]] = Counter()  # predictions since the last refresh
        self._answered: Counter[tuple[str, int]] = Counter()  # requests, likewise
        self._lock = threading.Lock()
        self._log_state: Callable[[], tuple[int, int]] = lambda: (0, 0)

    def watch_log(self, state: Callable[[], tuple[int, int]]) -> None:
        """Where rows in memory and on disk are asked from."""
        self._log_state = state

    def start(self) -> None:
        """Refreshes once a second from now on: an idle worker's numbers count too, whoever is asked for them."""
        self._thread = threading.Thread(target=self._keep_fresh, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self.refresh()

    def _keep_fresh(self) -> None:
        while not self._closing.wait(REFRESH_SECONDS):
            try:
                self.refresh()
            except Exception:  # numbers that are a second old are no reason to end
                log.exception("the metrics could not be refreshed")

    def answered(self, route: str, status: int, seconds: float) -> None:
        with self._lock:
            self._answered[route, status] += 1
        series = self._series.get(route)
        if series is None:
            series = self._series[route] = self.seconds.labels(route)
        series.observe(seconds)

    def predicted(self, model_id: str, role: str, labels: Sequence[str]) -> None:
        """A batch's answers. They reach the shared files once a second: a write for each class would cost as much as a
        small model's forward pass."""
        self.batch_images.observe(len(labels))
        with self._lock:
            self._counted.update((model_id, role, label) for label in labels)

    def refresh(self) -> None:
        """This worker's gauges, and what it has counted."""
        with self._lock:
            counted, self._counted = self._counted, Counter()
            answered, self._answered = self._answered, Counter()
        for (route, status), count in answered.items():
            self.requests.labels(route, str(status)).inc(count)
        for series, count in counted.items():
            self.predictions.labels(*series).inc(count)
        waiting, spooled = self._log_state()
        self.waiting.set(waiting)
        self.spooled.set(spooled)
        self.resident.set(self._process.memory_info().rss)

    def text(self) -> bytes:
        """All workers' numbers; those of the moment without the workers that are dead."""
        import prometheus_client as prometheus
        from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

        self.refresh()
        if self._folder is None:
            return bytes(prometheus.generate_latest(self._registry))
        for file in self._folder.glob("gauge_live*_*.db"):
            pid = file.stem.rpartition("_")[2]
            if pid.isdecimal() and not psutil.pid_exists(int(pid)):
                with contextlib.suppress(FileNotFoundError):
                    mark_process_dead(int(pid), str(self._folder))
        registry = prometheus.CollectorRegistry()
        MultiProcessCollector(registry, str(self._folder))
        return bytes(prometheus.generate_latest(registry))

    @cached_property
    def _process(self) -> psutil.Process:
        return psutil.Process()


def route_of(path: str) -> str:
    """A name out of few, whatever was asked for."""
    if path in ROUTES:
        return path
    return IMAGE_ROUTE if path.startswith("/queue/") and path.endswith("/image") else OTHER


class Metered:
    """ASGI middleware around all others: it counts refusals too."""

    def __init__(self, app: ASGIApp, metrics: Callable[[], Metrics | None]) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        metrics = self._metrics()
        if scope["type"] != "http" or metrics is None:
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            metrics.answered(route_of(scope["path"]), status, time.perf_counter() - started)


class Exposed:
    """ASGI middleware behind the access guard: `/metrics` for all workers."""

    def __init__(self, app: ASGIApp, metrics: Callable[[], Metrics | None]) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        metrics = self._metrics()
        if scope["type"] == "http" and scope["path"] == PATH and metrics is not None:
            text = await run_in_threadpool(metrics.text)  # of many classes and models it takes half a second
            await Response(text, media_type="text/plain; version=0.0.4")(scope, receive, send)
        else:
            await self.app(scope, receive, send)
