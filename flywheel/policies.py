"""The policies: what a decision asks for, apart from what was measured, so that `make replay` can try another one."""

from pydantic import BaseModel, ConfigDict, Field


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
