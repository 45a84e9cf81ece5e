"""What every benchmark leaves: `results/<name>.json`, committed as measured. Run by itself, it lists all claims."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
Figures = dict[str, float | int | str | Mapping[str, Any]]


@dataclass(frozen=True)
class Claim:
    """A claim and the figures that decide whether it holds."""

    name: str
    claim: str
    command: str
    figures: Figures
    holds: bool


def write_result(claim: Claim) -> Path:
    """Keep the claim with the machine and the day, and print it."""
    document = {**asdict(claim), "machine": machine(), "date": datetime.now(UTC).date().isoformat()}
    path = RESULTS / f"{claim.name}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=2))
    return path


def machine() -> str:
    """Processor, cores, Python: enough to judge a ratio by."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def read_figures(name: str) -> dict[str, Any]:
    """The figures of a kept result."""
    document = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return dict(document["figures"])


def rows_of(table: Mapping[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    """The cells of a figure that is a table, by row; their names are “row | row | column”."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for name, value in table.items():
        *row, column = name.split(" | ")
        rows.setdefault(tuple(row), {})[column] = value
    return rows


def shown(figure: Any) -> str:
    """A figure in a line: a table is only counted."""
    is_table = isinstance(figure, dict) and any(" | " in name for name in figure)
    return f"({len(figure)} cells)" if is_table else str(figure)


def main() -> None:
    """All claims, a line each."""
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        figures = ", ".join(f"{name} {shown(value)}" for name, value in result["figures"].items())
        print(f"{'holds ' if result['holds'] else 'FAILS '} {result['name']:<16} {result['claim']}\n        {figures}")


if __name__ == "__main__":
    main()


def table_of(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The other way round: cells named “row | row | column”, of rows by their names."""
    return {f"{row} | {column}": value for row, cells in rows.items() for column, value in cells.items()}
