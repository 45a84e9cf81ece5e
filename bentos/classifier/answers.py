"""The answers of the service, as they stand in its OpenAPI document."""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, Field

from bentos.classifier.errors import ErrorDetail
from flywheel.records import TrainedModel


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


class ServedModel(BaseModel):
    """What is served, and what it came from."""

    model_id: str
    architecture: str
    classes: list[str]
    input_size: int = Field(description="Pixels a side; images of any size are accepted and resized to it.")
    parameters: int
    dataset_id: str
    task_id: str
    identities: dict[str, str] = Field(description="The dataset, evaluation and code version it was packaged with.")

    @classmethod
    def of(cls, model: TrainedModel, identities: Mapping[str, str]) -> Self:
        return cls(
            model_id=model.id,
            architecture=model.architecture,
            classes=list(model.classes),
            input_size=model.preprocessing.size,
            parameters=model.parameters,
            dataset_id=model.dataset_id,
            task_id=model.task_id,
            identities=dict(identities),
        )
