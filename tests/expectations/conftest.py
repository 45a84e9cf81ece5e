"""Hand-made tables, and the suites run on them one expectation at a time by the real Great Expectations."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from expectations.context import Suite, run_suite, to_records
from flywheel.data.measurements import STATISTICS
from flywheel.records import ExpectationResult

Check = Callable[..., ExpectationResult]


@pytest.fixture
def index_table() -> pd.DataFrame:
    """80 rows of an index: two splits, two classes, 20 images of each class in each split; all is well."""
    rows = 80
    table = pd.DataFrame(
        {
            "split": np.repeat(["test", "train"], 40),
            "label": np.tile(np.repeat(["cat", "dog"], 20), 2),
            "image_id": [f"{row:064x}" for row in range(rows)],
            "width": 8,
            "height": 8,
            "mode": "RGB",
            "bytes": 700,
            "decode_ok": True,
            "error": "",
            "conflicting": False,
            "repeated": False,
            "leaks": False,
        }
    )
    table = _measured(table)
    table.insert(0, "path", [f"{table.split[row]}/{table.label[row]}/{row}.png" for row in range(rows)])
    return table


@pytest.fixture
def version_table() -> pd.DataFrame:
    """80 rows of a version: 20 a side, 10 of each class; all is well."""
    sides = ["frozen", "reference", "train", "validation"]
    table = pd.DataFrame(
        {
            "image_id": [f"{row:064x}" for row in range(80)],
            "label": np.tile(np.repeat(["cat", "dog"], 10), 4),
            "side": np.repeat(sides, 20),
            "path": [f"{row}.png" for row in range(80)],
            "split": "",
            "width": 8,
            "height": 8,
            "mode": "RGB",
            "bytes": 700,
            "conflicting": False,
            "repeated": False,
            "leaks": False,
        }
    )
    return _measured(table)


def _measured(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{name: np.full(len(table), 0.5, np.float32) for name in STATISTICS})


@pytest.fixture
def check() -> Check:
    """`check(suite, table, key)`: what the expectation of that key finds on the table."""

    def run(suite: Suite, table: pd.DataFrame, key: str, largest_share: float = 0.05) -> ExpectationResult:
        one = replace(suite, expectations=tuple(e for e in suite.expectations if e.meta["key"] == key))
        paths = table["path"] if "path" in table else pd.Series("", index=table.index)
        (result,) = to_records(one, run_suite(one, table), paths, largest_share)
        return result

    return run
