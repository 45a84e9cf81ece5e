"""What an operator can set on a running service: workers and limits, from `FLYWHEEL_SERVICE_…` variables."""

import os

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MOST_WORKERS_BY_DEFAULT = 4  # a worker holds about 800 MB, most of it torch


def usable_cores() -> int:
    """The cores that this process may run on, which in a container are fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def said(error: ValueError) -> str:
    """A sentence for each setting that is wrong, without its value: it may be a key in the wrong place."""
    if not isinstance(error, ValidationError):
        return str(error)
    lines = []
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        names = "_".join(str(part) for part in each["loc"]).upper()
        text = each["msg"].removeprefix("Value error, ").removesuffix(".")
        lines.append(f"FLYWHEEL_SERVICE_{names}: {text}." if names else f"{text}.")
    return "\n".join(lines)


class ServiceSettings(BaseSettings):
    """Limits are stated to the client in each refusal and in the OpenAPI description."""

    model_config = SettingsConfigDict(env_prefix="FLYWHEEL_SERVICE_", extra="ignore")

    workers: int = Field(
        default_factory=lambda: min(usable_cores(), MOST_WORKERS_BY_DEFAULT),
        ge=1,
        le=256,
        description="Worker processes; one a core, each with one inference thread.",
    )
    timeout: int = Field(default=30, ge=1, le=3600, description="Seconds until an unanswered request gets 504.")
    largest_body: int = Field(default=32 * 1024**2, ge=1024, description="Bytes of a whole request.")
    most_held: int = Field(
        default=256 * 1024**2, ge=1024, description="Bytes of all requests that a worker holds; more are answered 503."
    )
    most_pixels: int = Field(default=32_000_000, ge=1, description="Width × height of one image, read from its header.")
    most_pixels_together: int = Field(
        default=128_000_000, ge=1, description="Pixels of all images of one request; about 3 s of one core."
    )
    most_images: int = Field(default=64, ge=1, le=4096, description="Images in one /classify_batch request.")
    longest_queue: int = Field(default=256, ge=1, description="Images that wait in a worker; more are answered 503.")
    largest_batch: int = Field(default=64, ge=1, le=4096, description="Images that go through the model at once.")
    keys: SecretStr = Field(
        default=SecretStr(""),
        description="API keys: id:scope+scope:secret, separated by spaces, with scopes predict, feedback and admin. "
        "Without any, the service answers its own machine only.",
    )
    rate: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Requests a second that a key may make, over all workers; 0: as many as it likes.",
    )
    burst: int = Field(default=20, ge=1, description="Requests that a key may make at once, where a rate is set.")
    log: bool = Field(default=True, description="Whether every prediction is recorded.")
    follow: bool = Field(
        default=True, description="Whether the ledger's champion is served; needs FLYWHEEL_HOME, where its models lie."
    )
    kept_share: float = Field(default=0.05, ge=0, le=1, description="Of all predictions, whose image is kept.")
    most_kept: int = Field(
        default=1024**3, ge=0, description="Bytes of kept images; the oldest go first, those asked about never."
    )
    ask_below: float = Field(
        default=0.5, ge=0, le=1, description="Confidence below which an image's label is asked for."
    )
    most_asked: int = Field(default=100, ge=0, description="Labels that are asked for at once.")
    top_k: int = Field(default=5, ge=1, description="Classes in an answer, where the client doesn't say.")

    @model_validator(mode="after")
    def _a_full_batch_can_wait(self) -> "ServiceSettings":
        if self.most_images > self.longest_queue:
            raise ValueError(
                f"FLYWHEEL_SERVICE_MOST_IMAGES={self.most_images}: at most FLYWHEEL_SERVICE_LONGEST_QUEUE="
                f"{self.longest_queue} expected, or a full batch could never wait. Raise the queue."
            )
        return self
