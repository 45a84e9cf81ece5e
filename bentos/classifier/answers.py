"""The answers of the service, as they stand in its OpenAPI document."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError

from bentos.classifier.errors import ErrorDetail
from flywheel.ledger.entries import Champion, Decision
from flywheel.records import TrainedModel

UUID7 = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"


class Score(BaseModel):
    label: str
    confidence: float = Field(ge=0, le=1, description="Softmax probability.")


class Classification(BaseModel):
    """The answer for one image."""

    prediction_id: str = Field(description="UUIDv7.")
    label: str = Field(description="The likeliest class.")
    confidence: float = Field(ge=0, le=1, description="Its softmax probability.")
    top_k: list[Score] = Field(description="The likeliest classes, best first.")
    logits: dict[str, float] | None = Field(
        default=None, description="Calibrated logits of all classes; only where asked for by `logits=true`."
    )
    model_id: str = Field(description="The model that gave this answer.")
    latency_ms: float = Field(description="From the request's first byte in the app until the answer, queue included.")


class ImageError(BaseModel):
    """The place in a batch of an image that could not be read."""

    error: ErrorDetail


class BatchClassification(BaseModel):
    """The answers for a batch, in the order sent: an unreadable image fails alone."""

    results: list[Classification | ImageError]
    failed: int = Field(description="How many of the results are errors.")
    latency_ms: float


class Top1(BaseModel):
    """Top-1 accuracy on the frozen set with its 95 % interval."""

    value: float
    low: float
    high: float


class Measured(BaseModel):
    """How the model did on images that no training saw."""

    top1: Top1
    ece: float = Field(description="Expected calibration error.")
    images: int = Field(description="Of the frozen set.")


class Gate(BaseModel):
    """What the gate decided on the model."""

    decision_id: str
    verdict: str
    reason: str


class OnTrial(BaseModel):
    """A model beside the champion."""

    model_id: str
    role: str = Field(description="canary: it answers a share of the requests; shadow: it only looks.")
    share: float = Field(ge=0, le=1, description="Of the requests.")


class LogAnswer(BaseModel):
    """How the service's prediction log stands, all workers together; the figures of those that do not give this answer
    are at most a second old."""

    where: str = Field(description="The database, without its password; empty where nothing is logged.")
    waiting: int = Field(description="Rows in memory.")
    written: int = Field(description="Rows in the database, since the service began.")
    spooled: int = Field(description="Rows on this machine's disk, until the database answers again.")
    dropped: int = Field(description="Rows lost since it began, as neither database nor disk took them.")
    trouble: str = Field(description="Why a worker does not write to the database; empty where all do.")


class ServedModel(BaseModel):
    """What is served, and what it came from. Each worker answers for itself: they change models within two seconds."""

    model_id: str
    architecture: str
    classes: list[str]
    input_size: int = Field(description="Pixels a side; images of any size are accepted and resized to it.")
    parameters: int
    dataset_id: str
    task_id: str
    identities: dict[str, str] = Field(description="The dataset, evaluation and code version it was packaged with.")
    bento_tag: str = Field(default="", description="The Bento that was promoted, as name:version.")
    measured: Measured | None = Field(default=None, description="Nothing where it was packaged without an evaluation.")
    gate: Gate | None = Field(default=None, description="Nothing where the service follows no ledger.")
    champion_since: datetime | None = Field(default=None, description="UTC.")
    release_id: str = Field(default="", description="The decision that made it champion.")
    engine: str = Field(
        default="", description="What computes its answers: torch, or onnxruntime where that was faster."
    )
    follows: str = Field(default="", description="Whose champion is served, in words.")
    trouble: str = Field(default="", description="Why the champion of the ledger is not served; empty where it is.")
    trial: OnTrial | None = None
    log: LogAnswer | None = None

    @classmethod
    def of(
        cls, model: TrainedModel, identities: Mapping[str, str], metrics: Mapping[str, Any] | None = None, tag: str = ""
    ) -> Self:
        """What a Bento knows of the model that it carries; `metrics` are the stored model's."""
        return cls(
            model_id=model.id,
            architecture=model.architecture,
            classes=list(model.classes),
            input_size=model.preprocessing.size,
            parameters=model.parameters,
            dataset_id=model.dataset_id,
            task_id=model.task_id,
            identities=dict(identities),
            bento_tag=tag,
            measured=_measured(metrics or {}),
        )

    def of_champion(self, champion: Champion, gate: Decision | None) -> Self:
        """With what the ledger knows of a champion."""
        found = {"bento_tag": champion.bento_tag, "champion_since": champion.since, "release_id": champion.decision_id}
        if gate is None:
            return self.model_copy(update=found)
        told = Gate(decision_id=gate.id, verdict=gate.verdict.value, reason=gate.reason)
        return self.model_copy(update={**found, "gate": told, "measured": _of_gate(gate)})


def _measured(metrics: Mapping[str, Any]) -> Measured | None:
    try:
        top1 = Top1(value=metrics["top1"], low=metrics["top1_low"], high=metrics["top1_high"])
        return Measured(top1=top1, ece=metrics["ece"], images=metrics["evaluation_images"])
    except (KeyError, ValidationError):
        return None


def _of_gate(gate: Decision) -> Measured | None:
    """The challenger's evaluation, as the gate saw it."""
    evaluation = gate.evidence.get("measured", {}).get("challenger", {})
    try:
        return Measured(top1=evaluation["top1"], ece=evaluation["ece"], images=evaluation["images"])
    except (KeyError, ValidationError):
        return None


class Feedback(BaseModel):
    """A true label."""

    prediction_id: str = Field(
        pattern=UUID7, description="As the answer said it.", examples=["0199f2a4-7c00-7000-8000-000000000000"]
    )
    label: str = Field(min_length=1, max_length=1024, description="One of the model's classes.")
    source: str = Field(
        default="person",
        min_length=1,
        max_length=64,
        pattern=r"^[^\x00]*$",  # no database keeps a NUL, and one would say so too late
        description="Who says so: a person or a system.",
    )


class FeedbackTaken(BaseModel):
    """The label is on record, and survives whatever happens next."""

    prediction_id: str
    label: str
    predicted: str = Field(description="What the model said.")
    position: int = Field(description="In the order of all labels.")


class AskedImage(BaseModel):
    """An image whose label is asked for."""

    prediction_id: str
    reason: str
    asked_at: datetime = Field(description="UTC.")
    predicted: str = Field(description="What the model said.")
    image: str | None = Field(description="Where its bytes are; nothing where they were not kept.")


class LabelQueue(BaseModel):
    """The images whose label is asked for, the oldest request first. One with a label is no longer here."""

    images: list[AskedImage]
    open: int = Field(description="How many there are in all.")
