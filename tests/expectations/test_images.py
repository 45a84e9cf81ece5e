import numpy as np
import pandas as pd
import pytest

from expectations.context import run_suite, to_records
from expectations.images import KINDS, MEASURED, images_suite
from flywheel.records import Severity
from flywheel.settings import DataParameters

CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING
SUITE_OF = (("cat", "dog"), ("test", "train"))
LIMITS = DataParameters(largest_quarantine_share=0.05, largest_leak_share=0.05)
WHOLE_TABLE, FIRST_FILE = (), ("test/cat/0.png",)


def changed(column, value, rows=(0,)):
    """The table with a value put into some rows."""

    def change(table):
        kind = object if value is None else table[column].dtype
        altered = table.astype({column: kind})
        altered.loc[list(rows), column] = value
        return altered

    return change


def kept(condition):
    return lambda table: table[condition(table)].reset_index(drop=True)


# key: how the table is spoilt, the severity that it must have, how many are at fault, the files it must name
FAULTS = {
    "rows": (lambda table: table.iloc[:0], CRITICAL, 1, WHOLE_TABLE),
    "schema": (lambda table: table.drop(columns="mode").astype({"width": str}), CRITICAL, 2, WHOLE_TABLE),
    "two_classes": (kept(lambda table: table["label"] == "cat"), CRITICAL, 1, WHOLE_TABLE),
    "every_class": (kept(lambda table: table["label"] == "cat"), CRITICAL, 1, WHOLE_TABLE),
    "enough_images": (kept(lambda t: (t["label"] == "cat") | (t.index < 39)), WARNING, 1, WHOLE_TABLE),
    "balance": (kept(lambda t: (t["label"] == "cat") | (t.index < 23)), WARNING, 1, WHOLE_TABLE),
    "label_present": (changed("label", None), WARNING, 1, FIRST_FILE),
    "known_label": (changed("label", "zebra"), WARNING, 1, FIRST_FILE),
    "one_label": (changed("conflicting", True), WARNING, 1, FIRST_FILE),
    "split_present": (changed("split", None), WARNING, 1, FIRST_FILE),
    "path_present": (changed("path", None, rows=(3,)), WARNING, 1, ("row 3, of no path",)),
    "decode_ok_present": (changed("decode_ok", None), WARNING, 1, FIRST_FILE),
    "decodable": (changed("decode_ok", False), WARNING, 1, FIRST_FILE),
    **{f"{column}_present": (changed(column, None), WARNING, 1, FIRST_FILE) for column in MEASURED},
    "width_range": (changed("width", 3), WARNING, 1, FIRST_FILE),
    "height_range": (changed("height", 20_001), WARNING, 1, FIRST_FILE),
    "mode": (changed("mode", "XYZ"), WARNING, 1, FIRST_FILE),
    "brightness": (changed("brightness", 0.999), WARNING, 1, FIRST_FILE),
    "contrast": (changed("contrast", 0.0), WARNING, 1, FIRST_FILE),
    "no_copies": (changed("repeated", True), WARNING, 1, FIRST_FILE),
    "leakage": (changed("leaks", True), WARNING, 1, FIRST_FILE),
    "every_class_test": (kept(lambda t: (t["split"] == "train") | (t["label"] == "cat")), CRITICAL, 1, WHOLE_TABLE),
    "every_class_train": (kept(lambda t: (t["split"] == "test") | (t["label"] == "dog")), CRITICAL, 1, WHOLE_TABLE),
    "leakage_test": (changed("leaks", True, rows=range(3)), CRITICAL, 3, tuple(f"test/cat/{n}.png" for n in range(3))),
    "leakage_train": (changed("leaks", True, rows=(40, 41, 42)), CRITICAL, 3, ("train/cat/40.png",)),
}


def test_a_sound_table_passes_every_expectation(index_table):
    suite = images_suite(*SUITE_OF, LIMITS)
    results = to_records(suite, run_suite(suite, index_table), index_table["path"], 0.05)
    assert [one.description for one in results if not one.success] == []
    assert len(results) == len(suite.expectations) == len(FAULTS)
    assert all(one.unexpected_count == 0 and one.examples == () for one in results)


def test_every_expectation_has_a_failing_table_here():
    assert {one.meta["key"] for one in images_suite(*SUITE_OF, LIMITS).expectations} == set(FAULTS)


@pytest.mark.parametrize("key", FAULTS)
def test_a_spoilt_table_fails_with_its_severity_count_and_files(key, index_table, check):
    spoil, severity, count, files = FAULTS[key]
    found = check(images_suite(*SUITE_OF, LIMITS), spoil(index_table), key)
    assert (found.success, found.severity, found.unexpected_count) == (False, severity, count)
    assert found.examples[: len(files)] == files
    assert found.next_step
    assert found.description


def test_an_empty_index_is_stopped_by_its_rows_and_its_missing_classes(index_table):
    suite = images_suite(("cat", "dog"), (), LIMITS)
    empty = index_table.iloc[:0]
    results = to_records(suite, run_suite(suite, empty), empty["path"], 0.05)
    stopping = {one.description for one in results if not one.success and one.severity is CRITICAL}
    assert stopping == {
        "The source has images",
        "There are at least two classes",
        "Every declared class has usable images",
    }


def test_a_missing_column_stops_the_run_instead_of_passing(index_table, check):
    found = check(images_suite(*SUITE_OF, LIMITS), index_table.drop(columns="contrast"), "contrast")
    assert (found.success, found.severity) == (False, CRITICAL)
    assert 'column "contrast"' in found.observed


def test_five_per_cent_of_a_split_may_leak_and_no_more(index_table, check):
    suite = images_suite(*SUITE_OF, LIMITS)
    two, three = changed("leaks", True, (0, 1))(index_table), changed("leaks", True, (0, 1, 2))(index_table)
    assert check(suite, two, "leakage_test").success  # 2 of 40
    assert not check(suite, three, "leakage_test").success
    assert check(suite, three, "leakage_train").success


def test_rows_that_fail_are_a_warning_until_their_share_together_is_too_large(index_table):
    suite = images_suite(*SUITE_OF, LIMITS)

    def failed(table):
        results = to_records(suite, run_suite(suite, table), table["path"], 0.05)
        return {(one.description, one.severity) for one in results if not one.success}

    undecodable = changed("decode_ok", False, (0, 1))(index_table)
    too_small = changed("width", 1, (2, 3))
    decodes, wide = "Every image can be decoded", "The width is between 4 and 20,000 pixels"
    assert failed(too_small(index_table)) == {(wide, WARNING)}
    assert failed(undecodable) == {(decodes, WARNING)}
    assert failed(too_small(undecodable)) == {(decodes, WARNING), (wide, WARNING)}  # 4 of 80 is 5 %
    one_more = changed("width", 1, (2, 3, 4))(undecodable)
    assert failed(one_more) == {(decodes, CRITICAL), (wide, CRITICAL)}


def test_an_undecodable_file_has_one_fault_not_twenty(index_table):
    suite = images_suite(*SUITE_OF, LIMITS)
    table = index_table.astype({"image_id": object})
    table.loc[0, ["decode_ok", "image_id", "width", "height", "mode"]] = [False, None, 0, 0, ""]
    table.loc[0, ["brightness", "contrast", "red"]] = np.nan
    results = to_records(suite, run_suite(suite, table), table["path"], 0.05)
    assert [one.description for one in results if not one.success] == ["Every image can be decoded"]


def test_all_unexpected_rows_are_listed_also_beyond_the_200_that_great_expectations_shows(index_table, check):
    many = pd.concat([index_table] * 10, ignore_index=True)
    bad = list(range(50, 550))
    found = check(images_suite(*SUITE_OF, LIMITS), changed("decode_ok", False, bad)(many), "decodable")
    assert found.unexpected_rows == tuple(bad)
    assert found.examples == tuple(many["path"].iloc[50:55])


def test_a_class_that_only_one_split_has_is_named(index_table, check):
    test_without_dogs = index_table[(index_table["split"] == "train") | (index_table["label"] == "cat")]
    found = check(images_suite(*SUITE_OF, LIMITS), test_without_dogs, "every_class_test")
    assert found.observed == "dog has 0"
    assert found.description == "Every class has usable images in split test"


def test_the_columns_are_those_that_the_index_writes():
    from flywheel.data.index import COLUMNS

    assert set(KINDS) == set(COLUMNS) - {"error"}


def test_a_class_of_undecodable_and_conflicting_images_only_counts_as_missing(index_table, check):
    """Else it would vanish with its quarantined images, and the model would lack the class."""
    many = pd.concat([index_table] * 10, ignore_index=True)
    dogs = many.index[many["label"] == "dog"]
    none_left = many.assign(decode_ok=~many.index.isin(dogs[:-1]), conflicting=many.index == dogs[-1])
    found = check(images_suite(*SUITE_OF, LIMITS), none_left, "every_class")
    assert (found.success, found.severity, found.observed) == (False, CRITICAL, "dog has 0")
