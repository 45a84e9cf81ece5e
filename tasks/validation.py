"""Index → what its suite found → rows to leave out; and the same for a finished dataset version.

Great Expectations is imported only when something is validated: a result is kept in `reports/validations` under its
subject, suite, limits and the hash of the code that found it, and unchanged data is not validated twice.
"""

import csv
import io
import logging
import os
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

import expectations
from flywheel.identity import NAME_DIGITS, code_version, digest, digest_of_file
from flywheel.paths import Paths
from flywheel.records import (
    DatasetVersion,
    ExpectationResult,
    ImageIndex,
    Severity,
    Side,
    ValidationResult,
    from_json,
    to_json,
)
from flywheel.settings import DataParameters

if TYPE_CHECKING:
    from expectations.context import Suite

log = logging.getLogger(__name__)

PROJECT = Path(expectations.__file__).resolve().parent.parent
QUARANTINE_COLUMNS = ("path", "label", "expectation", "reason")
Prepared = tuple["Suite", pd.DataFrame]


class ValidationFailed(Exception):  # noqa: N818 - it reads as what happened
    """A critical expectation failed; the message names it, the count, the first files and what to do."""


def check_index(index: ImageIndex, parameters: DataParameters, paths: Paths) -> ValidationResult:
    """What the suite `images` finds on an index. Row-level failures are in it by row position; see `quarantine`."""

    def prepare() -> Prepared:
        from expectations.images import images_suite
        from flywheel.data.index import read_index

        rows = read_index(index, with_descriptors=True)
        table = _flagged(rows, rows["split"].to_numpy(object))
        splits = tuple(sorted({str(split) for split in table["split"].dropna()} - {""}))
        return images_suite(index.classes, splits, parameters), table

    return _kept_or_made("images", index.id, parameters, paths, prepare)


def check_version(version: DatasetVersion, parameters: DataParameters, paths: Paths) -> ValidationResult:
    """What the suite `splits` finds on a finished dataset version."""

    def prepare() -> Prepared:
        from expectations.splits import splits_suite
        from flywheel.data.versions import version_table

        rows = version_table(version, with_descriptors=True)
        # images that a subset left over come from the training side, and near duplicates within a side stay
        groups = rows["side"].replace(Side.UNUSED.value, Side.TRAIN.value).to_numpy(object)
        return splits_suite(version.classes, version.counts), _flagged(rows, groups)

    return _kept_or_made("splits", version.id, parameters, paths, prepare)


def find_index_check(index: ImageIndex, parameters: DataParameters, paths: Paths) -> ValidationResult | None:
    """What `check_index` found before, by the same code; None where it has to look, or its list is gone."""
    kept = _read(_result_file("images", index.id, parameters, paths))
    return kept if paths.quarantine(index.id).is_file() else None


def find_version_check(version: DatasetVersion, parameters: DataParameters, paths: Paths) -> ValidationResult | None:
    """What `check_version` found before, by the same code; None where it has to look."""
    return _read(_result_file("splits", version.id, parameters, paths))


def require(result: ValidationResult) -> None:
    """Do nothing when no critical expectation failed; else raise ValidationFailed with what a user needs."""
    if result.passed:
        return
    failed = result.failed(Severity.CRITICAL)
    if not failed:
        raise ValidationFailed(
            f"{result.subject}: suite {result.suite} holds no expectation, so nothing was validated."
        )
    lines = [f"{result.subject}: {len(failed)} critical of {len(result.results)} expectations failed ({result.suite})."]
    lines += [line for one in failed for line in told(one)]
    if result.docs:
        lines.append(f"All results: {result.docs}")
    raise ValidationFailed("\n".join(lines))


def told(result: ExpectationResult) -> tuple[str, ...]:
    """A failed expectation in words: what was expected, what was found, the first files, the next step."""
    lines = [f"- {result.description} ({result.expectation} on {result.subject}): {result.observed}"]
    if result.examples:
        more = result.unexpected_count - len(result.examples)
        lines.append(f"  first: {', '.join(result.examples)}{f' and {more:,} more' if more > 0 else ''}")
    if result.next_step:
        lines.append(f"  next: {result.next_step}")
    return tuple(lines)


def quarantine(index: ImageIndex, result: ValidationResult, paths: Paths) -> tuple[int, ...]:
    """The rows (positions in the index) that a row-level expectation takes out, listed in `paths.quarantine`.

    The CSV has a line for each row and expectation, and no line where nothing was taken out. Raises ValueError when the
    result is of another subject.
    """
    if result.subject != index.id:
        raise ValueError(f"{index.id}: a result of this index expected, one of {result.subject} given.")
    failed = [one for one in result.results if not one.success and one.unexpected_rows]
    rows = quarantined_rows(result)
    write_whole(paths.quarantine(index.id), _listing(index, failed) if rows else _csv([]))
    if rows:
        log.warning(
            "quarantined %s of %s images: %s", f"{len(rows):,}", f"{index.images:,}", paths.quarantine(index.id)
        )
    return rows


def quarantined_rows(result: ValidationResult) -> tuple[int, ...]:
    """Positions in the index that a row-level expectation takes out, ascending."""
    return tuple(sorted({row for one in result.results if not one.success for row in one.unexpected_rows}))


def _listing(index: ImageIndex, failed: Iterable[ExpectationResult]) -> str:
    from flywheel.data.index import read_index

    table = read_index(index)
    lines = []
    for one in failed:
        for row in one.unexpected_rows:
            image = table.iloc[row]
            lines.append((image["path"], _text(image["label"]), one.expectation, _reason(one, _text(image["error"]))))
    return _csv(sorted(lines))


def _reason(result: ExpectationResult, error: str) -> str:
    """Why this one row was taken out: the decoder's own words, or the expectation that it breaks."""
    return f"undecodable: {error}" if result.subject == "decode_ok" and error else f"not so: {result.description}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _csv(lines: Iterable[tuple[str, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(QUARANTINE_COLUMNS)
    writer.writerows(lines)
    return text.getvalue()


def _flagged(table: pd.DataFrame, groups: NDArray[np.object_]) -> pd.DataFrame:
    """The table without its descriptors and with the flags of copies; positions are its index, 0 … N-1."""
    from expectations.copies import near_pairs, with_copy_flags
    from flywheel.data.index import DESCRIPTOR, unpack_descriptors

    described = np.flatnonzero(table[DESCRIPTOR].map(bool).to_numpy())
    pairs = near_pairs(unpack_descriptors(table[DESCRIPTOR].iloc[described]), groups[described])
    return with_copy_flags(table.drop(columns=DESCRIPTOR), groups, described[pairs])


def _kept_or_made(
    suite: str, subject: str, parameters: DataParameters, paths: Paths, prepare: Callable[[], Prepared]
) -> ValidationResult:
    file = _result_file(suite, subject, parameters, paths)
    kept = _read(file)
    if kept is not None:
        log.info("%s: validated before, %s expectations (%s)", subject, len(kept.results), suite)
        return kept
    return _validate(subject, file.stem, parameters, paths, prepare())


def _result_file(suite: str, subject: str, parameters: DataParameters, paths: Paths) -> Path:
    return paths.validations / f"{subject}-{suite}-{_judge(parameters)}.json"


def _judge(parameters: DataParameters) -> str:
    """The hash of all that decides a result beside the data: the limits, the suites, and the code that finds copies."""
    limits = [parameters.largest_quarantine_share, parameters.largest_leak_share]
    code = [code_version(PROJECT, ("expectations", "flywheel/data")), digest_of_file(Path(__file__))]
    return digest([limits, code, metadata.version("great-expectations")])[:NAME_DIGITS]


def _validate(
    subject: str, stem: str, parameters: DataParameters, paths: Paths, prepared: Prepared
) -> ValidationResult:
    suite, table = prepared
    return run_and_keep(suite, table, subject, stem, paths, table["path"], parameters.largest_quarantine_share)


def run_and_keep(
    suite: "Suite", table: pd.DataFrame, subject: str, stem: str, paths: Paths, names: pd.Series, largest_share: float
) -> ValidationResult:
    """Run the suite; keep its page, then its result, then the list of all pages. `names` tell a row to a person."""
    from expectations.context import run_suite, to_records
    from expectations.docs import page

    found = run_suite(suite, table)
    results = to_records(suite, found, names, largest_share)
    validation = ValidationResult(suite.name, subject, results, paths.data_docs / f"{stem}.html")
    write_whole(paths.data_docs / f"{stem}.html", page(validation, found))
    write_whole(paths.validations / f"{stem}.json", to_json(validation) + "\n")
    _write_contents(paths)
    critical, warnings = len(validation.failed(Severity.CRITICAL)), len(validation.failed(Severity.WARNING))
    log.info(
        "%s: %s rows, %s expectations, %s critical and %s warnings (%s)",
        subject,
        f"{len(table):,}",
        len(results),
        critical,
        warnings,
        suite.name,
    )
    return validation


def _write_contents(paths: Paths) -> None:
    """`index.html` of the Data Docs: every kept result whose page is there, the latest first."""
    from expectations.docs import index_page

    files = sorted(paths.validations.glob("*.json"), key=lambda file: (-file.stat().st_mtime_ns, file.name))
    kept = [(f"{file.stem}.html", validation) for file in files if (validation := _read(file)) is not None]
    write_whole(paths.data_docs / "index.html", index_page(kept))


def _read(file: Path) -> ValidationResult | None:
    """A kept result; None where there is none, where it can't be read, or where its page was removed or moved away."""
    try:
        kept = from_json(ValidationResult, file.read_bytes())
    except (OSError, ValidationError):
        return None
    return kept if kept.docs is not None and kept.docs.is_file() else None


def write_whole(file: Path, text: str) -> None:
    """The whole file or the one before it: written under another name, then renamed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8", newline="")
    part.replace(file)
