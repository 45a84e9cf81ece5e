import pandas as pd
import pytest

from expectations.context import run_suite, to_records
from expectations.labels import ALL, labels_suite
from flywheel.records import Severity

CLASSES = ("cat", "dog")


@pytest.fixture
def labels() -> pd.DataFrame:
    """Six labels of one person; all is well."""
    flags = dict.fromkeys(("conflicting", "agreement", "one_class", "pair"), False)
    table = pd.DataFrame({"prediction_id": [f"{row:036}" for row in range(6)], "label": ["cat", "dog"] * 3})
    return table.assign(source="person", known=True, **flags)


FAULTS = {
    "known_prediction": ("known", False),
    "known_class": ("label", "zebra"),
    "one_label": ("conflicting", True),
    "plausible_agreement": ("agreement", True),
    "plausible_one_class": ("one_class", True),
    "plausible_pair": ("pair", True),
}


def test_nothing_is_wrong_with_good_labels(labels):
    suite = labels_suite(CLASSES)
    assert all(each.success for each in to_records(suite, run_suite(suite, labels), labels["prediction_id"], ALL))


@pytest.mark.parametrize("key", FAULTS)
def test_a_fault_names_its_rows_and_stops_nothing(labels, check, key):
    column, value = FAULTS[key]
    assert check(labels_suite(CLASSES), labels, key).success
    labels.loc[[1, 4], column] = value
    found = check(labels_suite(CLASSES), labels.assign(path=labels["prediction_id"]), key, ALL)
    assert (found.success, found.unexpected_rows, found.severity) == (False, (1, 4), Severity.WARNING)
    labels[column] = value
    assert check(labels_suite(CLASSES), labels, key, ALL).severity is Severity.WARNING


@pytest.mark.parametrize(
    ("key", "change"),
    [("rows", lambda table: table.iloc[:0]), ("schema", lambda table: table.astype({"known": str}))],
)
def test_no_table_of_labels_is_a_failure(labels, check, key, change):
    found = check(labels_suite(CLASSES), change(labels), key)
    assert (found.success, found.severity) == (False, Severity.CRITICAL)
