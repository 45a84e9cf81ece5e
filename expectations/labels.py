"""The suite on labels that came in: of known predictions, of known classes, without contradiction, and plausible.

What breaks a row's rule is set aside, and the rest may teach. That nothing is left, or that most is set aside, is told.
"""

from typing import TYPE_CHECKING

from expectations.context import Suite, critical, row_level

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

NAME = "labels"
KINDS = {
    "prediction_id": "text",
    "label": "text",
    "source": "text",
    "known": "flag",
    "conflicting": "flag",
    "agreement": "flag",
    "one_class": "flag",
    "pair": "flag",
}
ASK = "Ask who sent them. What was set aside teaches nothing; it is listed with its reason."
AGAIN = "Ask who sent them, and label it once more."
ALL = 1.0  # of the labels may be set aside: that is told, and nothing else has to stop
SENT = "Send the prediction_id of an answer of this service, and one of the model's classes."


def labels_suite(classes: tuple[str, ...]) -> Suite:
    return Suite(NAME, (*_schema(), *_rows(classes), *_batches()))


def _schema() -> list["Expectation"]:
    import great_expectations.expectations as gxe

    from expectations.custom import ExpectColumnKinds

    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=1, **critical("rows", "There are labels", SENT)),
        ExpectColumnKinds(kinds=KINDS, **critical("schema", "A label has its columns, each of its type", SENT)),
    ]


def _rows(classes: tuple[str, ...]) -> list["Expectation"]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeInSet(
            column="known",
            value_set=[True],
            **row_level("known_prediction", "Each label is of a prediction that is on record", SENT, ALL),
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="label",
            value_set=list(classes),
            **row_level("known_class", "Each label is one of the model's classes", SENT, ALL),
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="conflicting",
            value_set=[False],
            **row_level("one_label", "No image has two different labels", AGAIN, ALL),
        ),
    ]


def _batches() -> list["Expectation"]:
    import great_expectations.expectations as gxe

    told = {
        "agreement": "No source disagrees with the model more than the traffic's estimated accuracy allows",
        "one_class": "No source has more labels of one class than the traffic can hold",
        "pair": "No source gives one prediction one other label implausibly often",
    }
    return [
        gxe.ExpectColumnValuesToBeInSet(
            column=column, value_set=[False], **row_level(f"plausible_{column}", description, ASK, ALL)
        )
        for column, description in told.items()
    ]
