"""One run of Great Expectations: an ephemeral context, a suite, a table, and what was found as our own records.

Great Expectations keeps nothing: all of its stores lie in memory, no analytics, no files. What outlives the run is the
`ValidationResult` that `tasks.validation` stores under `reports/validations`, and the page that `expectations.docs`
writes. It is imported inside the functions here, since its import costs several CPU seconds.
"""

import logging
from copy import copy
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pandas as pd

from flywheel.records import ExpectationResult, Severity

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult
    from great_expectations.data_context import EphemeralDataContext
    from great_expectations.expectations.expectation import Expectation

ROW = "row_position"  # the column that leads from an unexpected value back to its row
EXAMPLES = 5
LONGEST_OBSERVED = 300  # characters: a line of a console, not a dump


class Level(StrEnum):
    """What an expectation speaks of, so what its failure means."""

    ROW = "row"  # rows that fail are quarantined; critical when their share is too large
    TABLE = "table"  # the table as a whole passes or fails at the expectation's severity


@dataclass(frozen=True)
class Suite:
    """A named list of expectations. Each is described by `critical`, `warning` or `row_level`."""

    name: str
    expectations: tuple["Expectation", ...]


def critical(key: str, description: str, next_step: str) -> dict[str, Any]:
    """Arguments of a table-level expectation whose failure stops the run. `key` is unique in its suite."""
    return _about(key, description, next_step, Severity.CRITICAL, Level.TABLE)


def warning(key: str, description: str, next_step: str) -> dict[str, Any]:
    """Arguments of an expectation whose failure is reported, and no more."""
    return _about(key, description, next_step, Severity.WARNING, Level.TABLE)


def row_level(key: str, description: str, next_step: str, largest_share: float) -> dict[str, Any]:
    """Arguments of an expectation that takes rows out, and stops the run when more than `largest_share` fail."""
    arguments = _about(key, description, next_step, Severity.CRITICAL, Level.ROW)
    return arguments | {"mostly": 1 - largest_share}


def only(condition: str) -> dict[str, Any]:
    """Arguments that look at the rows where a pandas query holds."""
    return {"row_condition": condition, "condition_parser": "pandas"}


def _about(key: str, description: str, next_step: str, severity: Severity, level: Level) -> dict[str, Any]:
    meta = {"key": key, "level": level.value, "next_step": next_step}
    return {"severity": severity.value, "description": description, "meta": meta}


def ephemeral_context() -> "EphemeralDataContext":
    """A context that writes no file, opens no socket and sends no analytics."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, ProgressBarsConfig

    memory = {"class_name": "InMemoryStoreBackend"}
    kinds = {
        "expectations_store": "ExpectationsStore",
        "validation_results_store": "ValidationResultsStore",
        "checkpoint_store": "CheckpointStore",
        "validation_definition_store": "ValidationDefinitionStore",
    }
    stores = {name: {"class_name": kind, "store_backend": memory} for name, kind in kinds.items()}
    config = DataContextConfig(
        stores=stores,
        expectations_store_name="expectations_store",
        validation_results_store_name="validation_results_store",
        checkpoint_store_name="checkpoint_store",
        data_docs_sites={},
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def run_suite(suite: Suite, table: pd.DataFrame) -> "ExpectationSuiteValidationResult":
    """The suite on a table, with every unexpected row named by its position in the table.

    Raises RuntimeError when Great Expectations drops an expectation: it does that silently.
    """
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # it tells of hundreds of its own methods
    context = ephemeral_context()
    # an expectation belongs to the first suite that takes it, so a second run needs copies
    expectations = [copy(expectation) for expectation in suite.expectations]
    known = context.suites.add(gx.ExpectationSuite(name=suite.name, expectations=expectations))
    _refuse_dropped(suite, len(known.expectations), "kept")
    source = context.data_sources.add_pandas("flywheel")
    whole = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("all")
    positioned = table.reset_index(drop=True)
    positioned[ROW] = positioned.index
    batch = whole.get_batch(batch_parameters={"dataframe": positioned})
    result = batch.validate(
        known,
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": [ROW],
            "return_unexpected_index_query": False,
        },
    )
    _refuse_dropped(suite, len(result.results), "ran")
    return result


def _refuse_dropped(suite: Suite, count: int, verb: str) -> None:
    if count != len(suite.expectations):
        raise RuntimeError(
            f"suite {suite.name}: {len(suite.expectations)} expectations given, Great Expectations {verb} {count}. "
            "Two of them may be equal, or a custom one is not imported."
        )


def to_records(
    suite: Suite, found: "ExpectationSuiteValidationResult", paths: pd.Series, largest_share: float
) -> tuple[ExpectationResult, ...]:
    """What was found, in the suite's order. Severity is decided here, not by Great Expectations.

    `paths` names the file of each row (positions, as validated). Rows that fail a row-level expectation are a warning
    until the share of all such rows together passes `largest_share`: then each of these expectations is critical.
    """
    order = {expectation.meta["key"]: rank for rank, expectation in enumerate(suite.expectations) if expectation.meta}
    sorted_results = sorted(found.results, key=lambda one: order[one.expectation_config.meta["key"]])
    failing = {row for one in sorted_results if _level(one) is Level.ROW for row in _rows(one)}
    too_many = len(failing) > largest_share * len(paths)
    together = f"together {len(failing) / max(len(paths), 1):.1%} of the images, {largest_share:.1%} at most"
    return tuple(_record(one, paths, together if too_many else "") for one in sorted_results)


def _record(one: "ExpectationValidationResult", paths: pd.Series, too_many: str) -> ExpectationResult:
    config = one.expectation_config
    rows = _rows(one)
    row_level = _level(one) is Level.ROW
    too_many = too_many if row_level and rows else ""
    crashed = _exception(one)
    success = not crashed and (not rows if row_level else bool(one.success))
    stops = crashed or too_many or (not row_level and config.severity.value == "critical")
    observed = crashed or _observed(one, len(rows))
    return ExpectationResult(
        expectation=config.type,
        subject=str(config.kwargs.get("column", "table")),
        description=str(config.description),
        severity=Severity.CRITICAL if stops else Severity.WARNING,
        success=success,
        observed=_shortened(f"{observed} ({too_many})" if too_many else observed),
        unexpected_count=0 if success else _count(one),
        unexpected_rows=tuple(rows) if row_level else (),
        examples=() if success else tuple(_file(paths, row) for row in rows[:EXAMPLES]),
        next_step=str(config.meta["next_step"]),
    )


def _file(paths: pd.Series, row: int) -> str:
    path = paths.iloc[row]
    return path if isinstance(path, str) else f"row {row:,}, of no path"


def _level(one: "ExpectationValidationResult") -> Level:
    return Level(one.expectation_config.meta["level"])


def _rows(one: "ExpectationValidationResult") -> list[int]:
    """All unexpected rows: `unexpected_list` is cut at 200 values, the index list is complete."""
    return sorted({int(entry[ROW]) for entry in one.result.get("unexpected_index_list") or ()})


def _exception(one: "ExpectationValidationResult") -> str:
    """Why an expectation could not be computed, or an empty text. It comes flat or keyed by metric."""
    info: dict[str, Any] = dict(one.exception_info or {})
    entries = [info] if "raised_exception" in info else [entry for entry in info.values() if isinstance(entry, dict)]
    messages = sorted({str(entry.get("exception_message")) for entry in entries if entry.get("raised_exception")})
    return "could not be computed: " + "; ".join(messages) if messages else ""


def _observed(one: "ExpectationValidationResult", rows: int) -> str:
    if "element_count" in one.result:
        looked_at = int(one.result["element_count"])
        return f"{rows:,} of {looked_at:,} rows" if rows else f"so in all {looked_at:,} rows"
    return str(one.result.get("observed_value"))


def _count(one: "ExpectationValidationResult") -> int:
    """How many rows, classes or columns are at fault; a failure with no count is one."""
    details = one.result.get("details") or {}
    return max(int(one.result.get("unexpected_count") or details.get("faults") or 0), 1)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_OBSERVED else text[: LONGEST_OBSERVED - 1] + "…"
