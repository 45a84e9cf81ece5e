"""What a report tells, kept as `report.json` beside the page, so that the page can be written again."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from flywheel.evaluation.record import EvaluationError
from flywheel.model.folder import write_atomically
from flywheel.records import (
    ClassResult,
    Evaluation,
    GateVerdict,
    PreparedData,
    Severity,
    Side,
    TrainedModel,
    ValidationResult,
    from_json,
    to_json,
)
from flywheel.settings import TrainingParameters

CONTENTS = "report.json"
PAGE = "report.html"
CLASSES_IN_SIGHT = 20  # with more, the worst so many stand open and the rest behind a click


@dataclass(frozen=True)
class ReportContents:
    """Everything that stands on the page, but for the figures."""

    model: TrainedModel
    data: PreparedData
    evaluation: Evaluation
    gate: GateVerdict
    bento_tag: str = ""
    parameters: TrainingParameters | None = None  # as the flow was given them

    @property
    def worst_class(self) -> ClassResult:
        """The class with the lowest recall among those that have images."""
        seen = [result for result in self.evaluation.classes if result.images] or list(self.evaluation.classes)
        return min(seen, key=lambda result: result.recall.value)

    @property
    def classes(self) -> tuple[list[ClassResult], list[ClassResult]]:
        """Per-class results in sight and behind a click: all in class list order, or the worst first."""
        results = list(self.evaluation.classes)
        if len(results) <= CLASSES_IN_SIGHT:
            return results, []
        results.sort(key=lambda result: result.recall.value)
        return results[:CLASSES_IN_SIGHT], results[CLASSES_IN_SIGHT:]

    @property
    def counts(self) -> list[tuple[str, int]]:
        """Images by side, in the order of the sides: JSON keeps no order of its own."""
        counts = self.data.dataset.counts
        return [(side.value, counts[side.value]) for side in Side if side.value in counts]

    @property
    def lineage(self) -> list[tuple[str, str, str]]:
        """What it is, its identity, a remark: from the source to the Bento."""
        data, model, evaluation = self.data, self.model, self.evaluation
        steps = [
            ("source", data.source.name, data.source.note or f"asked for as {data.source.origin}"),
            ("index", data.index.id, f"{data.index.images:,} files"),
            ("dataset version", data.dataset.id, f"packed at {data.dataset.size} pixels, {data.dataset.filter}"),
            ("evaluation set", evaluation.evaluation_set_id, f"{evaluation.images:,} images, {evaluation.role}"),
            ("task", self.gate.task_id, f"{len(model.classes)} classes"),
            ("model", model.id, f"weights SHA-256 {model.weights_sha256[:16]}…"),
            ("evaluation", evaluation.id, f"answers SHA-256 {evaluation.correct_sha256[:16]}…"),
            ("gate decision", self.gate.id, str(self.gate.verdict)),
        ]
        return [*steps, ("Bento", self.bento_tag, "")] if self.bento_tag else steps

    @property
    def command(self) -> str:
        """The command that makes this model again; empty where its parameters are not known."""
        return f"make run {' '.join(changed(self.parameters))}".strip() if self.parameters else ""


def changed(parameters: TrainingParameters) -> list[str]:
    """`NAME=value` of every parameter that is not its default, as `make` takes them."""
    default = TrainingParameters()
    given = []
    for section in ("data", "recipe", "gate"):
        ours, theirs = getattr(parameters, section), getattr(default, section)
        for name in type(ours).model_fields:
            value = getattr(ours, name)
            if value != getattr(theirs, name):
                given.append(f"{name.upper()}={shlex.quote('all' if value is None else str(value))}")
    return given if parameters.device == default.device else [*given, f"DEVICE={parameters.device}"]


def outcome(result: ValidationResult) -> str:
    """A suite in a few words: how many expectations held."""
    critical, warnings = len(result.failed(Severity.CRITICAL)), len(result.failed(Severity.WARNING))
    held = len(result.results) - critical - warnings
    return f"{held} of {len(result.results)} held, {warnings} warned, {critical} critical"


def write_contents(contents: ReportContents, folder: Path) -> None:
    write_atomically(folder / CONTENTS, to_json(contents))


def read_contents(folder: Path, model: TrainedModel, evaluation: Evaluation) -> ReportContents:
    """The contents again, with the model and evaluation as they lie on disk now.

    Raises EvaluationError where the model was never reported on, or its record can't be read.
    """
    path = folder / CONTENTS
    try:
        contents = from_json(ReportContents, path.read_bytes())
    except FileNotFoundError as error:
        raise EvaluationError(f"{path}: no report on {model.id} yet. Run 'make train' with its parameters.") from error
    except ValidationError as error:
        raise EvaluationError(f"{path}: not a readable record. Run 'make train' with its parameters.") from error
    return replace(contents, model=model, evaluation=evaluation)
