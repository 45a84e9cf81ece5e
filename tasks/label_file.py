"""Labels from a file: `make labels FILE=labels.csv`. They are judged as all labels are before they teach, and what is
sound goes to the prediction log. The same file twice adds nothing.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.ledger import Champion, LedgerError, open_ledger
from flywheel.ledger.entries import utc_now
from flywheel.ledger.predictions import open_predictions
from flywheel.model.folder import read_model
from flywheel.policies import LabelPolicy
from flywheel.settings import Settings, keep_tools_at_home
from tasks.labels import Gathered, judge, mean_confidence, open_labels
from tasks.retraining import believed_accuracy

if TYPE_CHECKING:
    import pyarrow as pa

MOST_BYTES = 64 * 2**20
MOST_ROWS = 100_000
LONGEST_ID, LONGEST_LABEL, LONGEST_SOURCE = 36, 1024, 64  # characters; as `/feedback` has them
NEEDED, OPTIONAL = ("prediction_id", "label"), "source"
SHOWN_COLUMNS = 10
MOST_REASONS = 10

Said = tuple[str, str, str]  # prediction's id, label, source


class LabelFileError(ValueError):
    """The file holds no table of labels; the message says what was expected and what to do."""


@dataclass(frozen=True)
class Taken:
    """What became of a file's labels."""

    rows: int
    added: int
    judged: Gathered

    @property
    def known(self) -> int:
        """Believed, and on record before."""
        return len(self.judged.accepted) - self.added


def take_file(file: Path, champion: Champion, settings: Settings, policy: LabelPolicy) -> Taken:
    """Read, judge and append. Raises LabelFileError."""
    said = read_labels(file)
    model = read_model(settings.paths.model(champion.model_id))
    believed = believed_accuracy(open_ledger(settings), champion)
    with closing(open_labels(settings)) as reader:
        answers = reader.about(champion.task_id, said, utc_now())
        confidence = mean_confidence(reader, champion, len(model.classes))
    judged = judge(answers, model, believed, confidence, policy, settings.paths)
    sound = [(each.prediction_id, each.label, each.source) for each in judged.accepted]
    return Taken(len(said), open_predictions(settings).add_labels(sound, client=""), judged)


def read_labels(file: Path) -> list[Said]:
    """The file's rows in order, the source where it names none: `file:<name>`. Raises LabelFileError."""
    try:
        size = file.stat().st_size
        if not file.is_file():
            raise LabelFileError(f"{file}: a CSV or Parquet file expected, this is no file.")
        if size > MOST_BYTES:
            raise LabelFileError(f"{file}: {size:,} bytes, {MOST_BYTES:,} at most. Split it.")
        with file.open("rb") as stream:
            head = stream.read(4)
    except OSError as error:
        raise LabelFileError(f"{file}: can't be read: {error.strerror}.") from error
    rows = _of_parquet(file) if head == b"PAR1" else _of_csv(file)
    default = f"file:{file.name}".encode(errors="replace").decode()[:LONGEST_SOURCE]
    said = [_checked(file, number, row, default) for number, row in enumerate(rows, start=1)]
    if not said:
        raise LabelFileError(f"{file}: no row. A row a label expected, under {', '.join(NEEDED)}.")
    return said


def _of_csv(file: Path) -> Iterator[Said]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines, strict=True)
            _demand_columns(file, list(rows.fieldnames or ()))
            for number, row in enumerate(rows, start=1):
                _demand_room(file, number)
                if None in row or None in row.values():
                    raise LabelFileError(f"{file}: row {number:,} has not as many cells as the header.")
                yield row["prediction_id"], row["label"], row.get(OPTIONAL) or ""
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelFileError(f"{file}: no CSV in UTF-8, and no Parquet: {error}.") from error


def _of_parquet(file: Path) -> Iterator[Said]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        about = parquet.read_metadata(file)
        schema = about.schema.to_arrow_schema()
        _demand_columns(file, schema.names)
        names = [*NEEDED, *({OPTIONAL} & set(schema.names))]
        _demand_texts(file, names, schema)
        _demand_room(file, about.num_rows)
        unpacked = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        if unpacked > MOST_BYTES:
            raise LabelFileError(f"{file}: {unpacked:,} bytes unpacked, {MOST_BYTES:,} at most. Split it.")
        # each different text is read once: a file of a few bytes can hold one of a gigabyte in every row
        table = parquet.ParquetFile(file, read_dictionary=names)
        for batch in table.iter_batches(columns=names):
            columns = [_cells(file, name, batch.column(name)) for name in names]
            columns += [[""] * batch.num_rows] * (3 - len(columns))
            yield from zip(*columns, strict=True)  # type: ignore[misc]
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise LabelFileError(f"{file}: no Parquet that can be read: {' '.join(str(error).split())[:200]}") from error


def _demand_texts(file: Path, names: list[str], schema: "pa.Schema") -> None:
    from pyarrow import types

    for name in names:
        kind = schema.field(name).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if not (types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)):
            raise LabelFileError(f"{file}: {name} is of type {kind}, a text was expected.")


def _cells(file: Path, name: str, column: "pa.Array") -> list[str]:
    from pyarrow import compute, types

    if types.is_dictionary(column.type) and not types.is_integer(column.type.value_type):
        longest = compute.max(compute.binary_length(column.dictionary)).as_py() or 0
        if longest > LONGEST_LABEL * 4:  # bytes of a character, at most
            raise LabelFileError(f"{file}: {name} holds {longest:,} bytes in a cell. Nothing was added.")
    return [_text(value) for value in column.to_pylist()]


def _text(value: object) -> str:
    """A class may be a number, or what the writer had for a word."""
    return "" if value is None else str(value)


def _demand_columns(file: Path, names: list[str]) -> None:
    missing = [name for name in NEEDED if names.count(name) != 1]
    if missing:
        found = ", ".join(repr(name[:40]) for name in names[:SHOWN_COLUMNS]) or "none"
        raise LabelFileError(
            f"{file}: the columns {' and '.join(NEEDED)} expected, each once, and {OPTIONAL} where there is one; "
            f"found: {found}."
        )


def _demand_room(file: Path, rows: int) -> None:
    if rows > MOST_ROWS:
        raise LabelFileError(f"{file}: more than {MOST_ROWS:,} rows. Split it.")


def _checked(file: Path, number: int, row: Said, default: str) -> Said:
    """What no column of the database holds is no label."""
    identity, label, source = (cell.strip() for cell in row)
    for name, cell, longest in zip(
        (*NEEDED, OPTIONAL),
        (identity, label, source),
        (LONGEST_ID, LONGEST_LABEL, LONGEST_SOURCE),
        strict=True,
    ):
        if "\0" in cell or len(cell) > longest or (not cell and name != OPTIONAL):
            nul = ", and a NUL" if "\0" in cell else ""
            raise LabelFileError(
                f"{file}: row {number:,} has a {name} of {len(cell):,} characters{nul}; from 1 to {longest:,} without "
                "a NUL expected. Nothing was added."
            )
    return identity.lower(), label, source or default


def told(file: Path, taken: Taken) -> str:
    """What a person reads."""
    lines = [
        f"{file.name}: {taken.rows:,} labels",
        f"  added      {taken.added:,}",
        f"  known      {taken.known:,}",
        f"  set aside  {len(taken.judged.set_aside):,}",
    ]
    reasons = list(taken.judged.reasons.items())
    lines += [f"    {count:,} {reason}" for reason, count in reasons[:MOST_REASONS]]
    lines += [f"    and {len(reasons) - MOST_REASONS:,} reasons more"] if len(reasons) > MOST_REASONS else []
    if taken.judged.listed is not None:
        lines.append(f"  listed in  {taken.judged.listed}")
    again = taken.rows - len(taken.judged.accepted) - len(taken.judged.set_aside)
    lines += [f"  {again:,} were said again further down, and the last counts."] if again else []
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """`python -m tasks.label_file --file FILE`: CSV or Parquet with prediction_id, label and, if you like, source."""
    parser = argparse.ArgumentParser(prog="make labels", description=main.__doc__)
    parser.add_argument("--file", "--FILE", metavar="FILE", type=Path, help="labels.csv or labels.parquet")
    parser.add_argument("--task", "--TASK", metavar="ID", help="task-…; by default the last promoted one's")
    given = parser.parse_args(arguments)
    settings = Settings()
    keep_tools_at_home(settings)
    try:
        if given.file is None:
            raise LabelFileError("Which file? FILE=labels.csv expected, with prediction_id and label.")
        champion = open_ledger(settings, create=False).champion(given.task)
        if champion is None:
            raise LedgerError("No champion yet: 'make run' makes one, and labels are of its answers.")
        taken = take_file(given.file, champion, settings, LabelPolicy())
    except (OSError, RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command's answer
        return 1
    print(told(given.file, taken))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
