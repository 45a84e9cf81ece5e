"""The suite on a window of predictions: is this what the service says it logged, fresh, and at its usual rate?

A critical finding means that nothing can be concluded from these rows; a warning is told beside what was concluded.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from expectations.context import Suite, critical, warning
from flywheel.data.measurements import STATISTICS
from flywheel.policies import WindowPolicy

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

NAME = "predictions"
KINDS = {
    "id": "text",
    "at": "number",
    "predicted": "integer",
    "classes": "integer",
    "confidence": "number",
    "total": "number",
    "embedding_finite": "flag",
    "width": "integer",
    "height": "integer",
    "repeated": "flag",
    **dict.fromkeys(STATISTICS, "number"),
}
ROUNDING = 1e-3  # by which a softmax in float32 may miss a sum of 1
CLOCKS_APART = 300.0  # seconds
MENDED = "Look at the service's log: another program, or another version, may write into this database."


@dataclass(frozen=True)
class Expected:
    """What a window is compared with."""

    classes: int
    now: float  # seconds since 1970
    usual_rate: float | None  # predictions an hour over the looks before; None where there were none


def predictions_suite(expected: Expected, policy: WindowPolicy) -> Suite:
    return Suite(NAME, (*_schema(expected), *_ranges(expected), *_when(expected, policy), *_images(policy)))


def _schema(expected: Expected) -> list["Expectation"]:
    import great_expectations.expectations as gxe

    from expectations.custom import ExpectColumnKinds

    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=1, **critical("rows", "There are predictions", MENDED)),
        ExpectColumnKinds(kinds=KINDS, **critical("schema", "A prediction has its columns, each of its type", MENDED)),
        *(
            gxe.ExpectColumnValuesToNotBeNull(
                column=column, **critical(f"{column}_present", f"Every prediction has its {column}", MENDED)
            )
            for column in KINDS
        ),
        gxe.ExpectColumnValuesToBeUnique(column="id", **critical("ids", "No prediction is there twice", MENDED)),
        gxe.ExpectColumnValuesToBeInSet(
            column="classes",
            value_set=[expected.classes],
            **critical("class_list", f"Each has {expected.classes} probabilities, as the model has classes", MENDED),
        ),
    ]


def _ranges(expected: Expected) -> list["Expectation"]:
    import great_expectations.expectations as gxe

    within = {
        "predicted": (0, expected.classes - 1, "The answer is one of the model's classes"),
        "total": (1 - ROUNDING, 1 + ROUNDING, "Probabilities sum to 1"),
        "confidence": (1 / expected.classes - ROUNDING, 1 + ROUNDING, "The answer is the likeliest class"),
        **{name: (0.0, 1.0, f"The image's {name} is between 0 and 1") for name in STATISTICS},
    }
    sizes = {"width": "The image has a width", "height": "The image has a height"}
    return [
        *(
            gxe.ExpectColumnValuesToBeBetween(
                column=column, min_value=low, max_value=high, **critical(f"{column}_range", said, MENDED)
            )
            for column, (low, high, said) in within.items()
        ),
        *(
            gxe.ExpectColumnValuesToBeBetween(column=column, min_value=1, **critical(f"{column}_range", said, MENDED))
            for column, said in sizes.items()
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="embedding_finite",
            value_set=[True],
            **critical("embedding", "The embedding is made of finite numbers", MENDED),
        ),
    ]


def _when(expected: Expected, policy: WindowPolicy) -> list["Expectation"]:
    import great_expectations.expectations as gxe

    # each is the same in all rows: of an aggregate, Great Expectations can't write numpy's numbers
    silent = f"The newest prediction is at most {policy.silence_hours:g} hours old"
    found: list[Expectation] = [
        gxe.ExpectColumnValuesToBeBetween(
            column="at",
            max_value=expected.now + CLOCKS_APART,
            **warning("not_ahead", "No prediction is of the future", "Set the clocks of the service's machines."),
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="newest_hours_ago",
            max_value=policy.silence_hours,
            **warning("fresh", silent, "See whether the service is reached."),
        ),
    ]
    if expected.usual_rate:
        factor = policy.largest_rate_change
        usual = f"Predictions an hour are within {factor:g} times the usual {expected.usual_rate:,.0f}"
        found.append(
            gxe.ExpectColumnValuesToBeBetween(
                column="per_hour",
                min_value=expected.usual_rate / factor,
                max_value=expected.usual_rate * factor,
                **warning("rate", usual, "See who sends the images, and who stopped."),
            )
        )
    return found


def _images(policy: WindowPolicy) -> list["Expectation"]:
    import great_expectations.expectations as gxe

    share = policy.largest_repeated_share
    return [
        gxe.ExpectColumnValuesToBeInSet(
            column="repeated",
            value_set=[False],
            mostly=1 - share,
            **warning(
                "repeated",
                f"At most {share:.0%} are of an image that the window has already",
                "A client may send one image again and again; each counts once.",
            ),
        )
    ]
