import pandas as pd
import pytest

from expectations.context import run_suite, to_records
from expectations.splits import KINDS, splits_suite
from flywheel.records import Severity

CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING
COUNTS = {"frozen": 20, "reference": 20, "train": 20, "unused": 0, "validation": 20}
SUITE_OF = (("cat", "dog"), COUNTS)


def changed(column, value, rows=(0,)):
    def change(table):
        altered = table.astype({column: object}) if value is None else table.copy()
        altered.loc[list(rows), column] = value
        return altered

    return change


def without(side, label):
    return lambda table: table[(table["side"] != side) | (table["label"] != label)].reset_index(drop=True)


FAULTS = {
    "rows": (lambda table: table.iloc[1:], CRITICAL, 1),
    "schema": (lambda table: table.astype({"brightness": str}), CRITICAL, 1),
    "side_counts": (changed("side", "train"), CRITICAL, 2),
    **{f"{column}_present": (changed(column, None), CRITICAL, 1) for column in KINDS},
    "known_label": (changed("label", "zebra"), CRITICAL, 1),
    "known_side": (changed("side", "test"), CRITICAL, 1),
    "one_label": (changed("conflicting", True), CRITICAL, 1),
    "no_copies": (changed("repeated", True), CRITICAL, 1),
    "leakage": (changed("leaks", True), CRITICAL, 1),
    "every_class_train": (without("train", "dog"), CRITICAL, 1),
    "every_class_frozen": (without("frozen", "cat"), CRITICAL, 1),
    "every_class_validation": (without("validation", "dog"), WARNING, 1),
    "every_class_reference": (without("reference", "dog"), WARNING, 1),
    "balance": (without("train", "dog"), WARNING, 1),
    "width_range": (changed("width", 2), CRITICAL, 1),
    "height_range": (changed("height", 2), CRITICAL, 1),
    "mode": (changed("mode", "XYZ"), WARNING, 1),
    "brightness": (changed("brightness", 0.0), WARNING, 1),
    "contrast": (changed("contrast", 0.0), WARNING, 1),
}


def test_a_sound_version_passes_every_expectation(version_table):
    suite = splits_suite(*SUITE_OF)
    results = to_records(suite, run_suite(suite, version_table), version_table["path"], 0.05)
    assert [one.description for one in results if not one.success] == []
    assert len(results) == len(FAULTS)


def test_every_expectation_has_a_failing_table_here():
    assert {one.meta["key"] for one in splits_suite(*SUITE_OF).expectations} == set(FAULTS)


@pytest.mark.parametrize("key", FAULTS)
def test_a_spoilt_version_fails_with_its_severity_and_count(key, version_table, check):
    spoil, severity, count = FAULTS[key]
    found = check(splits_suite(*SUITE_OF), spoil(version_table), key)
    assert (found.success, found.severity, found.unexpected_count) == (False, severity, count)
    assert found.next_step


def test_one_leaking_image_in_a_thousand_stops_the_run(version_table, check):
    many = pd.concat([version_table] * 13, ignore_index=True)
    found = check(splits_suite(*SUITE_OF), changed("leaks", True, (1000,))(many), "leakage")
    assert (found.success, found.severity, found.observed) == (False, CRITICAL, "1 of 1,040 rows")


def test_side_counts_that_differ_from_the_manifest_are_named(version_table, check):
    found = check(splits_suite(*SUITE_OF), changed("side", "train")(version_table), "side_counts")
    assert found.observed == "frozen has 19, not 20, train has 21, not 20"


def test_the_columns_are_those_that_a_version_writes():
    from flywheel.data.index import DESCRIPTOR
    from flywheel.data.versions import ROW_SCHEMA

    assert set(KINDS) == set(ROW_SCHEMA.names) - {DESCRIPTOR}
