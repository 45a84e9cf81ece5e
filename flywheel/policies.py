"""The policies: what a decision asks for, apart from what was measured, so that `make replay` can try another one."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class GatePolicy(BaseModel):
    """What a model must show before it may become champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # the floors: they alone judge a task's first model
    lift_over_majority: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="How far the low end of top-1's interval must lie above always answering the most common class, "
        "as a share of what is left.",
    )
    worst_class_recall: float = Field(
        default=0.2, ge=0, le=1, description="The low end of the worst class's recall must reach it."
    )
    largest_ece: float = Field(default=0.15, gt=0, le=1, description="Expected calibration error at most.")
    smallest_evaluation_set: int = Field(default=100, ge=1, description="Fewer frozen images are not enough evidence.")

    # against the champion and the anchor, on the same images
    margin: float = Field(
        default=0.02,
        gt=0,
        le=0.5,
        description="Top-1 that a challenger may lose against the anchor, the last model promoted as superior.",
    )
    promote_non_inferior: bool = Field(
        default=False,
        description="Promote a challenger that is not worse than the anchor by the margin; off: it must be better than "
        "the champion.",
    )
    wrong_promotion_budget: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="The chance of any wrong promotion over all planned gates on one frozen set, at most.",
    )
    planned_gates: int = Field(default=10, ge=1, le=10_000, description="Verdicts that one frozen set is to serve for.")
    disagreement: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="Share of images on which an equal challenger is expected to be right where the champion is wrong, "
        "or the other way round. It decides no verdict, only how many images are asked for.",
    )
    smallest_power: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="A gate that would pass an equal challenger less often is refused before anything is trained.",
    )

    # parts of the frozen set
    largest_slice_drop: float = Field(
        default=0.1, gt=0, le=1, description="Top-1 that no class and no tercile may lose; a pass excludes it."
    )
    smallest_slice: int = Field(
        default=100, ge=1, description="Smaller slices are reported, and too small to hold up a verdict."
    )
    slice_error: float = Field(
        default=0.05, gt=0, lt=0.5, description="The chance of failing any slice that lost no more than the margin."
    )

    # other ways of getting worse
    largest_robustness_loss: float = Field(
        default=0.05, gt=0, le=1, description="Mean accuracy on corrupted images that may be lost."
    )
    largest_latency_ratio: float = Field(
        default=2.0, gt=0, le=1000, description="How many times the champion's latency a challenger may take."
    )
    largest_size_ratio: float = Field(
        default=2.0, gt=0, le=100_000, description="How many times the champion's bytes of weights it may have."
    )

    @property
    def loss_of_a_slice(self) -> float:
        """Top-1 that a class or tercile may be shown to have lost, at most."""
        return self.margin


class RetrainingGatePolicy(GatePolicy):
    """What a retrained model must show: better under drift, and not worse on the frozen set."""

    promote_non_inferior: bool = Field(
        default=True,
        description="Promote a challenger that is not worse than the anchor by the margin; off: it must be better than "
        "the champion.",
    )
    drifted_level: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="The chance that any retraining of one champion passes for better under drift without being so, at "
        "most.",
    )
    slice_margin: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Top-1 that a class or a third of the frozen set may be shown to have lost, for what is won under "
        "drift; of all together it is the margin.",
    )

    @property
    def loss_of_a_slice(self) -> float:
        return self.slice_margin


class WindowPolicy(BaseModel):
    """How much of the prediction log one look of monitoring takes, and what it expects of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fewest_images: int = Field(
        default=50,
        ge=30,
        le=100_000,
        description="Different images that a look waits for; fewer stay for the next one.",
    )
    most_images: int = Field(
        default=1000,
        ge=30,
        le=100_000,
        description="Predictions that a look measures; of more, so many, evenly spread over all that came since.",
    )
    silence_hours: float = Field(
        default=24.0, gt=0, le=24 * 365, description="Without any prediction for so long, silence itself is reported."
    )
    largest_rate_change: float = Field(
        default=10.0, gt=1, le=1000, description="How many times the usual rate is still no reason for a warning."
    )
    largest_repeated_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of predictions on an image that the window has already, at most."
    )


class AlarmPolicy(BaseModel):
    """When monitoring believes that what a model sees has moved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    false_alarm_budget: float = Field(
        default=0.05,
        gt=0.01,
        lt=0.5,
        description="The chance of any false alarm in a model's life, from its release to the next, at most.",
    )


class DiagnosisPolicy(BaseModel):
    """What follows from an alarm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    largest_loss: float = Field(
        default=0.04, gt=0, le=1, description="Estimated accuracy that may be lost before drift counts as harmful."
    )
    largest_blank_share: float = Field(
        default=0.1, gt=0, le=1, description="More images without any contrast than this share are a broken input."
    )
    closest_match: float = Field(
        default=0.85,
        gt=0,
        le=1,
        description="The cosine from which on a shift is taken for that of a known mistake of an input pipeline.",
    )
    smallest_new_share: float = Field(
        default=0.05, gt=0, le=1, description="Share of images far from every class from which on they are a new kind."
    )
    labels_asked: int = Field(
        default=100, ge=1, le=10_000, description="Labels that are asked for where the estimates disagree."
    )


class LabelPolicy(BaseModel):
    """Which labels are believed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    implausible_level: float = Field(
        default=0.01,
        gt=0,
        lt=0.5,
        description="The chance that all labels of an honest source are set aside as implausible, at most.",
    )
    fewest_judged: int = Field(
        default=20,
        ge=5,
        le=100_000,
        description="Labels of one source from which on they are judged alone; those of sources with fewer, together.",
    )
    most_labels: int = Field(
        default=20_000, ge=20, le=1_000_000, description="Labels since the release that are read, the newest."
    )


class ReleasePolicy(BaseModel):
    """How long a release waits for traffic, and how long it watches the service afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patience_seconds: float = Field(
        default=30.0, ge=0, le=24 * 3600, description="Without any request to the trial for so long, it is given up."
    )
    guard_seconds: float = Field(
        default=10.0,
        ge=0,
        le=24 * 3600,
        description="After the promotion; a service that can't serve the new champion gets the one before back.",
    )


class RetrainPolicy(BaseModel):
    """When a retraining begins, and how it learns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels_needed: int = Field(
        default=300,
        ge=20,
        le=1_000_000,
        description="Labelled images that a retraining waits for; fewer are asked for.",
    )
    cooldown_hours: float = Field(
        default=24.0,
        ge=0,
        le=24 * 365,
        description="After a retraining that did not help, none of the task begins for so long.",
    )
    retrain_epochs: int = Field(default=5, ge=1, le=1000, description="Passes over new and replayed images.")
    learning_rate_share: float = Field(
        default=0.4, gt=0, le=10, description="Of the champion's own learning rate: it goes on from its weights."
    )
    retrain_ema: float = Field(
        default=0.97,
        ge=0,
        lt=1,
        description="Decay of the averaged weights, a step, at the least: which class the last steps happened to cost "
        "is averaged out. 0: as the champion's recipe has it.",
    )


class CanaryPolicy(BaseModel):
    """What a challenger must show on live requests before every request is its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(default=0.2, gt=0, le=0.5, description="Share of the requests that the challenger answers.")
    level: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="The chance that a challenger within all tolerances is found harmful, over all looks, at most; and "
        "that one beyond any is found harmless.",
    )
    fewest_answers: int = Field(
        default=200, ge=20, le=100_000, description="Answers of each, champion and challenger, before any promotion."
    )
    most_answers: int = Field(
        default=2000, ge=20, le=100_000, description="Requests to the challenger after which the trial ends."
    )
    longest_seconds: float = Field(
        default=120.0, gt=0, le=7 * 24 * 3600, description="Time after which the trial ends, whatever came."
    )
    undecided: Literal["promote", "roll back"] = Field(
        default="promote",
        description="What follows a trial that ends with neither harm nor its absence shown. With too few answers, or "
        "more harm seen than is tolerated, it is always rolled back.",
    )
    largest_failure_increase: float = Field(
        default=0.02, gt=0, le=1, description="Share of requests that may fail beyond the champion's own."
    )
    largest_slow_increase: float = Field(
        default=0.1, gt=0, le=1, description="Share of answers that may be slow beyond the champion's own."
    )
    slow_seconds: float = Field(
        default=0.0,
        ge=0,
        le=600,
        description="From when on an answer is slow; 0: the time within which the champion gave 95 % of its answers "
        "before the trial.",
    )
    largest_confidence_loss: float = Field(
        default=0.1, gt=0, le=1, description="Mean confidence that may be lost against the champion's."
    )
    largest_accuracy_loss: float = Field(
        default=0.1, gt=0, le=1, description="Accuracy on labelled answers that may be lost against the champion's."
    )
    fewest_labels: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Labels of each from which on a promotion waits for what they say; fewer hold it up only while "
        "they seem to say that more accuracy is lost than is tolerated.",
    )

    @model_validator(mode="after")
    def _can_end(self) -> Self:
        if self.most_answers < self.fewest_answers:
            raise ValueError(
                f"most_answers {self.most_answers}: fewest_answers, {self.fewest_answers}, or more were expected: no "
                "trial could promote."
            )
        return self


class RetrainCanaryPolicy(CanaryPolicy):
    """Of a retrained model: a champion under drift is surer than it is right, so less confidence is no harm yet."""

    largest_confidence_loss: float = Field(
        default=0.5, gt=0, le=1, description="Mean confidence that may be lost against the champion's."
    )
