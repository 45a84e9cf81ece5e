"""The expectations that Great Expectations has not: a table's column kinds, counts of values,
images of every class, class balance.

This module subclasses Great Expectations, so importing it costs that import (several CPU seconds): the suites import it
inside their functions.
"""

from typing import Any, ClassVar

from great_expectations.execution_engine import ExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation, ColumnAggregateExpectation
from pandas.api.types import pandas_dtype

LISTED_CLASSES = 10  # classes named in an observed value; the rest is counted
KINDS: dict[str, tuple[str, ...]] = {
    "text": ("O", "U", "S", "T"),
    "flag": ("b",),
    "integer": ("i", "u"),
    "number": ("i", "u", "f"),
}


def _is_kind(dtype: str, kind: str) -> bool:
    """Whether a column of this pandas dtype holds text, flags or numbers."""
    resolved = pandas_dtype(dtype)
    if kind == "text":
        return resolved.kind in KINDS["text"] or dtype.startswith(("str", "string", "category"))
    return resolved.kind in KINDS[kind]


def _counts(metrics: dict[str, Any]) -> dict[str, int]:
    return {str(label): int(count) for label, count in metrics["column.value_counts"].items() if count}


def _listed(names: list[str]) -> str:
    more = len(names) - LISTED_CLASSES
    return ", ".join(names[:LISTED_CLASSES]) + (f" and {more:,} more" if more > 0 else "")


class ExpectColumnKinds(BatchExpectation):
    """Every named column is there and holds text, a flag, an integer or a number."""

    kinds: dict[str, str]
    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.column_types",)
    success_keys: ClassVar[tuple[str, ...]] = ("kinds",)

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,  # noqa: ARG002 - the signature is Great Expectations'
        execution_engine: ExecutionEngine | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        found = {str(column["name"]): str(column["type"]) for column in metrics["table.column_types"]}
        missing = [name for name in self.kinds if name not in found]
        wrong = [
            f"{name} is {found[name]}, {kind} expected"
            for name, kind in self.kinds.items()
            if name in found and not _is_kind(found[name], kind)
        ]
        faults = [f"{name} is missing" for name in missing] + wrong
        observed = "; ".join(faults) or f"{len(self.kinds)} columns as declared"
        return {
            "success": not faults,
            "result": {"observed_value": observed, "details": {"faults": len(faults)}},
        }


class ExpectEveryClass(ColumnAggregateExpectation):
    """Every declared class has at least `min_images` rows. An empty table has none of them, so it fails."""

    classes: list[str]
    min_images: int = 1
    metric_dependencies: ClassVar[tuple[str, ...]] = ("column.value_counts",)
    success_keys: ClassVar[tuple[str, ...]] = ("classes", "min_images")

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,  # noqa: ARG002
        execution_engine: ExecutionEngine | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        counts = _counts(metrics)
        few = [label for label in self.classes if counts.get(label, 0) < self.min_images]
        named = _listed([f"{label} has {counts.get(label, 0):,}" for label in few])
        observed = (
            named or f"{min((counts.get(label, 0) for label in self.classes), default=0):,} or more of each class"
        )
        return {
            "success": bool(self.classes) and not few,
            "result": {
                "observed_value": observed if self.classes else "no class is declared",
                "details": {"faults": len(few) if self.classes else 1},
            },
        }


class ExpectClassBalance(ColumnAggregateExpectation):
    """The smallest class has at least `min_ratio` times as many images as the largest.

    Proportions are bounded instead of tested: at a million images a chi-square test rejects a trivial imbalance.
    """

    classes: list[str]
    min_ratio: float
    metric_dependencies: ClassVar[tuple[str, ...]] = ("column.value_counts",)
    success_keys: ClassVar[tuple[str, ...]] = ("classes", "min_ratio")

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,  # noqa: ARG002
        execution_engine: ExecutionEngine | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        found = _counts(metrics)
        counts = {label: found.get(label, 0) for label in self.classes}
        largest = max(counts, key=lambda label: (counts[label], label), default="")
        floor = self.min_ratio * counts.get(largest, 0)
        small = [label for label, count in counts.items() if count < floor or count == 0]
        observed = "no images"
        if counts and counts[largest]:
            smallest = min(counts, key=lambda label: (counts[label], label))
            observed = f"{smallest} has {counts[smallest]:,}, {largest} {counts[largest]:,}"
        return {
            "success": bool(counts) and not small,
            "result": {"observed_value": observed, "details": {"faults": len(small)}},
        }


class ExpectValueCounts(ColumnAggregateExpectation):
    """Every value of a column is there exactly as often as declared, and no other value is there."""

    counts: dict[str, int]
    metric_dependencies: ClassVar[tuple[str, ...]] = ("column.value_counts",)
    success_keys: ClassVar[tuple[str, ...]] = ("counts",)

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,  # noqa: ARG002
        execution_engine: ExecutionEngine | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        found = _counts(metrics)
        values = sorted({*self.counts, *found})
        wrong = [
            f"{value} has {found.get(value, 0):,}, not {self.counts.get(value, 0):,}"
            for value in values
            if found.get(value, 0) != self.counts.get(value, 0)
        ]
        observed = _listed(wrong) or ", ".join(f"{value} {found[value]:,}" for value in values)
        return {"success": not wrong, "result": {"observed_value": observed, "details": {"faults": len(wrong)}}}
