"""The training process: `python -m tasks.fit <request.json>`. Events go to stdout as JSON lines, the log to stderr.

It trains, keeps what the model says about the reference side, and writes the manifest last. Exit code 0 follows a
"done" event; anything else a "failed" one with a reason and what to try, unless the process was killed.
"""

import argparse
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from flywheel.identity import digest_of_file
from flywheel.model.folder import (
    HISTORY,
    WEIGHTS,
    ModelError,
    TrainingError,
    list_files,
    model_code_version,
    recipe_content,
    write_manifest,
)
from flywheel.records import DatasetVersion, InitialWeights, Side, TrainedModel, as_dict, from_json
from flywheel.settings import Recipe, Settings, keep_tools_at_home

if TYPE_CHECKING:
    from flywheel.data.versions import DatasetArrays
    from flywheel.model.inference import Classifier
    from flywheel.model.training import Fitted
    from flywheel.records import Preprocessing
    from tasks.tracking import Tracker

logger = logging.getLogger("tasks.fit")


@dataclass(frozen=True)
class FitRequest:
    """What the parent asks for."""

    model_id: str
    dataset: DatasetVersion
    recipe: Recipe
    device: str  # cpu, cuda or mps
    folder: Path  # the partial model folder
    home: Path
    track: bool  # whether W&B listens
    initial: InitialWeights | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 or 1."""
    asked = _parse(arguments)
    if asked.end_with_stdin:
        end_with_stdin()
    events = _own_stdout()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.raiseExceptions = False  # W&B's own log on a full disk would fill this one, a trace a line

    def tell(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    try:
        model = fit_request(from_json(FitRequest, asked.request.read_bytes()), tell)
    except Exception as error:
        logger.exception("training failed")
        tell({"event": "failed", **_reason(error)})
        return 1
    tell({"event": "done", "model_id": model.id, "top1_validation": model.top1_validation})
    return 0


def fit_request(request: FitRequest, on_event: Callable[[dict[str, Any]], None]) -> TrainedModel:
    """Train as asked and leave a whole model folder, not yet renamed."""
    settings = Settings(home=request.home)
    keep_tools_at_home(settings)
    _check_initial(request)
    from tasks.tracking import Tracker

    tracker = Tracker.start(
        request.model_id, request.recipe, request.dataset, request.home, request.track, settings.wandb_wait
    )
    with tracker:
        from flywheel.data.versions import open_arrays
        from flywheel.model.preprocessing import measure_preprocessing
        from flywheel.model.training import fit

        arrays = open_arrays(request.dataset)
        rows = arrays.side(Side.TRAIN)
        preprocessing = _preprocessing(request) or measure_preprocessing(arrays.images, rows, request.dataset.filter)

        def listen(event: dict[str, Any]) -> None:
            on_event(event)
            tracker.log(event)

        fitted = fit(
            arrays.images,
            arrays.labels,
            rows,
            arrays.side(Side.VALIDATION),
            request.dataset.classes,
            request.recipe,
            request.device,
            request.folder,
            listen,
            preprocessing=preprocessing,
            initial=request.initial,
        )
        model = _complete(request, arrays, fitted, preprocessing, tracker)
    if tracker.outcome is not None:
        on_event(tracker.outcome)
    return model


def _preprocessing(request: FitRequest) -> "Preprocessing | None":
    """Of the initial weights, at the size and by the filter that the version was packed with; None: measure it."""
    if request.initial is None or request.initial.preprocessing is None:
        return None
    return replace(request.initial.preprocessing, size=request.dataset.size, filter=request.dataset.filter)


def end_with_stdin() -> None:
    """End this process at once when its stdin closes: the parent is gone, by whatever way."""

    def wait() -> None:
        while os.read(0, 1):  # sys.stdin would hold a lock that the interpreter waits for at its end
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="end-with-stdin").start()


def _complete(
    request: FitRequest, arrays: "DatasetArrays", fitted: "Fitted", preprocessing: "Preprocessing", tracker: "Tracker"
) -> TrainedModel:
    """The reference, what W&B gets of the finished model, and the manifest, in this order."""
    from flywheel.model.inference import classifier_of

    draft = TrainedModel(
        id=request.model_id,
        folder=request.folder,
        dataset_id=request.dataset.id,
        task_id=request.dataset.task_id,
        architecture=request.recipe.model,
        classes=request.dataset.classes,
        preprocessing=preprocessing,
        parameters=fitted.parameters,
        seed=request.recipe.seed,
        threads=request.recipe.threads,
        device=request.device,
        epochs=request.recipe.epochs,
        best_epoch=fitted.best_epoch,
        top1_validation=fitted.top1_validation,
        weights_sha256=digest_of_file(request.folder / WEIGHTS),
        train_seconds=fitted.train_seconds,
        images_per_second=fitted.images_per_second,
        wandb_run=tracker.folder(),
        stem=request.recipe.stem,
        initial_weights=request.initial.origin if request.initial else "",
        both_sides=request.recipe.both_sides,
    )
    classifier = _calibrated(classifier_of(draft, request.folder / WEIGHTS, request.device), arrays)
    draft = classifier.model
    names = [WEIGHTS, HISTORY, *_keep_reference(request.folder, classifier, arrays)]
    rows = arrays.side(Side.VALIDATION)
    tracker.finish_with(draft, classifier, arrays.images[rows], arrays.labels[rows])
    training = {
        "recipe": recipe_content(request.recipe),
        "initial_weights": _initial(request),
        "code": model_code_version(),
        "dataset_counts": dict(request.dataset.counts),
        "images": "streamed" if fitted.streamed else "resident",
        "parts_of_a_batch": fitted.parts,  # 1, but where the device's memory ran out
    }
    write_manifest(request.folder, draft, list_files(request.folder, names), training)
    return draft


def _check_initial(request: FitRequest) -> None:
    """Raises ModelError where the file is another one than the model's identity says."""
    if request.initial is None:
        return
    file = request.initial.file
    found = digest_of_file(file) if file.is_file() else "no file"
    if found != request.initial.sha256:
        raise ModelError(f"{file}: SHA-256 {request.initial.sha256[:12]}… expected, {found[:12]} found. Run again.")


def _initial(request: FitRequest) -> dict[str, Any] | None:
    """Without the path, which is this machine's own."""
    return None if request.initial is None else as_dict(replace(request.initial, file=Path(request.initial.file.name)))


def _calibrated(classifier: "Classifier", arrays: "DatasetArrays") -> "Classifier":
    """With the temperature that fits the reference side; the answers stay what they are."""
    from flywheel.model.calibration import fit_temperature

    rows = arrays.side(Side.REFERENCE)
    temperature = fit_temperature(classifier.predict_rows(arrays.images, rows).logits, arrays.labels[rows])
    return replace(classifier, model=replace(classifier.model, temperature=temperature))


def _keep_reference(folder: Path, classifier: "Classifier", arrays: "DatasetArrays") -> tuple[str, ...]:
    from flywheel.model.reference import SAMPLES, Reference, fit_projection, write_reference

    rows = arrays.side(Side.REFERENCE)
    outputs = classifier.predict_rows(arrays.images, rows)
    reference = Reference(
        logits=outputs.logits,
        embeddings=outputs.embeddings,
        statistics=arrays.statistics[rows],
        statistic_names=tuple(arrays.statistic_names),
        labels=arrays.labels[rows],
        ids=arrays.ids[rows],
        projection=fit_projection(outputs.embeddings),
        samples=arrays.images[rows[:SAMPLES]],
    )
    return write_reference(folder, reference)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tasks.fit", description="Train one model; `train` starts it.")
    parser.add_argument("request", type=Path, help="the request, as JSON")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when stdin closes: the parent has gone")
    return parser.parse_args(arguments)


def _own_stdout() -> IO[str]:
    """The events' channel; what libraries print to stdout goes to stderr from now on."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def _reason(error: Exception) -> dict[str, str]:
    if isinstance(error, TrainingError):
        return {"reason": f"{error.subject}: {error.reason}", "hint": error.hint}
    if isinstance(error, ModelError):
        return {"reason": str(error), "hint": ""}
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return {"reason": f"memory ran out: {error}", "hint": "Try a smaller batch or model."}
    return {"reason": f"{type(error).__name__}: {error}", "hint": "The whole trace is in the log."}


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    if any(thread.name == "wandb" and thread.is_alive() for thread in threading.enumerate()):
        os._exit(code)  # W&B hangs, and would hold up the exit
    sys.exit(code)
