"""Which engine serves a model: measured when it is packaged, on the machine that packages it.

The two answer by turns in one process, one image and sixteen at a time, which is what the service's batches are like.
ONNX Runtime is taken where it is faster at both beyond doubt and its answers are torch's; torch is never wrong.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flywheel.evaluation.cost import FEWEST_ROUNDS, median_ratio
from flywheel.identity import digest_of_file
from flywheel.model.folder import ModelError, write_atomically
from flywheel.model.inference import Classifier, load_model
from flywheel.model.reference import read_samples
from flywheel.records import to_json
from flywheel.runtime.export import ExportError, export
from flywheel.runtime.record import FOLDER, GRAPH, RECORD, Engine, Runtime, Timing, read_runtime
from flywheel.runtime.running import OnnxModel, load_onnx

log = logging.getLogger(__name__)

BATCHES = (1, 16)
ROUNDS = 25
SECONDS = 4.0  # for each size, once it has the fewest rounds
TOLERANCE = 5e-4  # of a logit: half of what a served model may differ by from its training
EMBEDDING_TOLERANCE = 1e-3  # of the largest entry
SCRATCH = ".runtime-"
STALE_SECONDS = 3600.0
TRIED = 64  # drawn images, besides the model's samples


def chosen_runtime(folder: Path) -> Runtime:
    """The engine of a model's folder: as it was chosen before, else measured now and written down.

    Raises ModelError where the model or an earlier choice is damaged.
    """
    classifier = load_model(folder)
    found = read_runtime(folder, classifier.model)
    if found is not None:
        return found
    _remove_stale(folder)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder, ignore_cleanup_errors=True) as scratch:
        whole = Path(scratch, FOLDER)
        whole.mkdir()
        runtime = choose(classifier, read_samples(folder)[0], whole)
        if runtime.engine is Engine.TORCH:
            (whole / GRAPH).unlink(missing_ok=True)
        write_atomically(whole / RECORD, to_json(runtime))
        _publish(whole, folder / FOLDER)
    return read_runtime(folder, classifier.model) or runtime


def choose(classifier: Classifier, samples: NDArray[np.uint8], scratch: Path) -> Runtime:
    """Measures, and leaves the graph in `scratch` where it is to serve. Never raises for what ONNX can't do."""
    weights = classifier.model.weights_sha256
    versions = {"torch": version("torch")}
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has it
    try:
        versions["onnxruntime"] = version("onnxruntime")
        export(classifier, scratch / GRAPH)
        onnx = load_onnx(classifier.model, scratch / GRAPH)
        difference = demand_agreement(classifier, onnx, samples)
        timings = tuple(_timed(onnx, classifier, samples, batch) for batch in BATCHES)
    except (PackageNotFoundError, ImportError):
        return Runtime(Engine.TORCH, "ONNX Runtime is not installed.", weights, versions)
    except (ExportError, ModelError) as error:
        log.warning("%s: not for ONNX Runtime: %s", classifier.model.id, error)
        return Runtime(Engine.TORCH, f"The model can't be served by ONNX Runtime: {error}", weights, versions)
    finally:
        torch.set_num_threads(before)
    told, measured = _told(timings), (weights, versions, timings, difference)
    if all(timing.ratio is not None and timing.ratio.high < 1 for timing in timings):
        digest = digest_of_file(scratch / GRAPH)
        return Runtime(Engine.ONNX, f"ONNX Runtime takes {told}.", *measured, digest)
    return Runtime(Engine.TORCH, f"ONNX Runtime is not faster for sure: it takes {told}.", *measured)


def demand_agreement(classifier: Classifier, onnx: OnnxModel, samples: NDArray[np.uint8]) -> float:
    """The largest difference of a logit, on the model's samples and on noise. Raises ModelError beyond TOLERANCE."""
    size = classifier.model.preprocessing.size
    drawn = np.random.default_rng(0).integers(0, 256, (TRIED, size, size, 3), dtype=np.uint8)
    largest = 0.0
    for images in (samples, samples[:1], drawn, drawn[:1]):
        ours, theirs = classifier.predict_packed(images), onnx.predict_packed(images)
        if ours.logits.shape != theirs.logits.shape or ours.embeddings.shape != theirs.embeddings.shape:
            raise ModelError("its outputs have other shapes than torch's.")
        apart = float(np.abs(ours.logits - theirs.logits).max(initial=0))
        embedded = float(np.abs(ours.embeddings - theirs.embeddings).max(initial=0))
        allowed = EMBEDDING_TOLERANCE * max(float(np.abs(ours.embeddings).max(initial=0)), 1.0)
        if not (apart <= TOLERANCE and embedded <= allowed):  # NaN is not
            raise ModelError(f"its logits are up to {apart:.2g} apart from torch's, its embeddings {embedded:.2g}.")
        largest = max(largest, apart)
    return largest


def _timed(onnx: OnnxModel, classifier: Classifier, samples: NDArray[np.uint8], batch: int) -> Timing:
    """The thread's own CPU time of both, in the order one, other, other, one."""
    images = np.ascontiguousarray(samples[np.arange(batch) % len(samples)])
    ratios: list[float] = []
    started = time.monotonic()
    for number in range(-1, ROUNDS):  # the first is not counted
        if number >= FEWEST_ROUNDS and time.monotonic() - started > SECONDS:
            break
        took = [_seconds(each.predict_packed, images) for each in (onnx, classifier, classifier, onnx)]
        if number >= 0 and min(took) > 0:
            ratios.append((took[0] + took[3]) / (took[1] + took[2]))
    return Timing(batch, median_ratio(ratios), len(ratios))


def _seconds(predict: Callable[[NDArray[np.uint8]], object], images: NDArray[np.uint8]) -> float:
    before = time.thread_time()
    predict(images)
    return time.thread_time() - before


def _told(timings: tuple[Timing, ...]) -> str:
    parts = []
    for timing in timings:
        found = timing.ratio
        share = f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]" if found else "an unknown share"
        parts.append(f"{share} for {timing.batch} image{'s' if timing.batch > 1 else ''}")
    return f"{' and '.join(parts)} of torch's time"


def _publish(whole: Path, folder: Path) -> None:
    """Renamed in one step; where another process was first, its choice stays."""
    try:
        whole.rename(folder)
    except OSError:
        if not (folder / RECORD).is_file():
            raise


def _remove_stale(folder: Path) -> None:
    """What a killed measurement left behind."""
    for scratch in folder.glob(f"{SCRATCH}*"):
        if time.time() - scratch.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(scratch, ignore_errors=True)
