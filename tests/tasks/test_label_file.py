"""A file of labels: what is sound is added once, what is not is told, and what is no table of labels is refused."""

import csv

import numpy as np
import pandas as pd
import pytest

from flywheel.data.versions import open_arrays
from flywheel.ledger import open_ledger
from flywheel.ledger.predictions import Role, Serving
from flywheel.settings import Settings
from tasks import label_file
from tasks.label_file import MOST_ROWS, LabelFileError, main, read_labels

ID = f"{1:036}"


@pytest.fixture
def table(watched) -> pd.DataFrame:
    """60 answers with their true classes."""
    arrays = open_arrays(watched.project.version)
    rows = np.random.default_rng(0).permutation(len(arrays.images))[:60]
    names = [watched.model.classes[each] for each in arrays.labels[rows]]
    return pd.DataFrame({"prediction_id": watched.send(rows), "label": names})


def stored(watched) -> list[tuple[str, str, str]]:
    return [(each.prediction_id, each.label, each.source) for each in watched.log.labels()]


def run(capsys, *arguments: str) -> tuple[int, str]:
    code = main(list(arguments))
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_same_file_twice_adds_nothing(watched, table, tmp_path, capsys, kind):
    file = tmp_path / f"from the clinic.{kind}"
    table.to_csv(file, index=False) if kind == "csv" else table.to_parquet(file)
    code, said = run(capsys, "--FILE", str(file))
    assert code == 0
    assert "60 labels\n  added      60\n  known      0\n  set aside  0" in said
    assert stored(watched) == [(*row, f"file:from the clinic.{kind}") for row in table.itertuples(index=False)]
    code, said = run(capsys, "--FILE", str(file))
    assert code == 0
    assert "added      0\n  known      60" in said
    assert len(stored(watched)) == 60


def test_what_is_not_sound_is_listed_and_not_added(watched, table, tmp_path, capsys):
    file = tmp_path / "labels.csv"
    table.loc[len(table)] = ["nobody's", "zero"]
    table.loc[3, "label"] = "=cmd|' /C calc'!A0"
    table.assign(source="a person").to_csv(file, index=False)
    code, said = run(capsys, "--FILE", str(file))
    assert code == 0
    assert "added      59\n  known      0\n  set aside  2" in said
    assert "1 not so: Each label is one of the model's classes" in said
    assert {source for *_, source in stored(watched)} == {"a person"}
    (listed,) = watched.project.paths.interim.glob("labels/*.csv")
    assert str(listed) in said
    with listed.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["label"] for row in rows] == ["'=cmd|' /C calc'!A0", "zero"], "no spreadsheet runs it"


def test_a_poisoned_file_adds_nothing(watched, table, tmp_path, capsys):
    file = tmp_path / "labels.csv"
    table.assign(label=watched.model.classes[0]).to_csv(file, index=False)
    code, said = run(capsys, "--FILE", str(file))
    assert code == 0
    assert "added      0" in said
    assert "60 of 60 labels are “" in said or "labels agree with the model" in said
    assert stored(watched) == []


def test_who_says_two_things_says_the_last(watched, table, tmp_path, capsys):
    file = tmp_path / "labels.csv"
    second = table.iloc[:1]
    first = second.assign(label=next(name for name in watched.model.classes if name != second["label"].item()))
    pd.concat([first, second]).to_csv(file, index=False)
    _, said = run(capsys, "--FILE", str(file))
    assert [label for _, label, _ in stored(watched)] == second["label"].tolist()
    assert "1 were said again further down" in said


def test_labels_of_a_trials_answers_are_taken_and_of_another_tasks_are_not(watched, tmp_path, capsys):
    names = (watched.model.id, "classifier:b", "dec-trial")
    watched.log.append(
        [Serving(2, watched.champion.task_id, *names, Role.CANARY, "host:1", watched.champion.since)], []
    )
    watched.log.append([Serving(3, "task-other", *names, Role.CHAMPION, "host:1", watched.champion.since)], [])
    of_trial, foreign = watched.send([0], serving_id=2), watched.send([1], serving_id=3)
    file = tmp_path / "labels.csv"
    pd.DataFrame({"prediction_id": of_trial + foreign, "label": "zero"}).to_csv(file, index=False)
    run(capsys, "--FILE", str(file))
    assert [identity for identity, *_ in stored(watched)] == of_trial


def test_without_a_champion_or_a_file_it_says_what_to_do(project, capsys, tmp_path):
    (tmp_path / "labels.csv").write_text(f"prediction_id,label\n{ID},zero\n")
    code, said = run(capsys, "--FILE", str(tmp_path / "labels.csv"))
    assert (code, "no ledger yet. 'make run'" in said) == (1, True)
    open_ledger(Settings(home=project.home, database_url=""))
    code, said = run(capsys, "--FILE", str(tmp_path / "labels.csv"))
    assert (code, said) == (1, "No champion yet: 'make run' makes one, and labels are of its answers.\n")
    code, said = run(capsys)
    assert (code, "FILE=labels.csv expected" in said) == (1, True)


HOSTILE = {
    "empty": (b"", "found: none"),
    "no table": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "no CSV in UTF-8"),
    "latin-1": (f"prediction_id,label\n{ID},caf".encode() + b"\xe9\n", "no CSV in UTF-8"),
    "no label": (b"prediction_id,truth\n1,cat\n", "found: 'prediction_id', 'truth'"),
    "twice a label": (b"prediction_id,label,label\n1,cat,dog\n", "each once"),
    "semicolons": (b"prediction_id;label\n1;cat\n", "found: 'prediction_id;label'"),
    "no row": (b"prediction_id,label\n", "no row"),
    "a NUL": (f"prediction_id,label\n{ID},ca\0t\n".encode(), "NUL"),
    "no label there": (f"prediction_id,label\n{ID},\n".encode(), "row 1 has a label of 0 characters"),
    "few cells": (f"prediction_id,label\n{ID}\n".encode(), "row 1 has not as many cells"),
    "many cells": (f"prediction_id,label\n{ID},cat,dog\n".encode(), "row 1 has not as many cells"),
    "a long id": (f"prediction_id,label\n{'1' * 37},cat\n".encode(), "row 1 has a prediction_id of 37"),
    "a long cell": (
        b"prediction_id,label\n1," + b"x" * 200_000 + b"\n",
        "no CSV in UTF-8, and no Parquet: field larger",
    ),
    "an open quote": (b'prediction_id,label\n1,"cat\n', "unexpected end of data"),
    "half a Parquet": (b"PAR1" + b"\0" * 100, "no Parquet that can be read"),
    "too many rows": (b"prediction_id,label\n" + b"1,cat\n" * 2_000_000, f"more than {MOST_ROWS:,} rows"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_table_of_labels_is_refused_with_its_reason(tmp_path, case):
    content, reason = HOSTILE[case]
    file = tmp_path / "labels.csv"
    file.write_bytes(content)
    with pytest.raises(LabelFileError) as refused:
        read_labels(file)
    assert reason in str(refused.value)
    assert str(refused.value).startswith(f"{file}: ")


def test_files_that_are_too_large_or_no_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(LabelFileError, match="No such file"):
        read_labels(tmp_path / "nothing.csv")
    with pytest.raises(LabelFileError, match="this is no file"):
        read_labels(tmp_path)
    monkeypatch.setattr(label_file, "MOST_BYTES", 1000)
    (tmp_path / "large.csv").write_bytes(b"x" * 1001)
    with pytest.raises(LabelFileError, match="1,001 bytes, 1,000 at most"):
        read_labels(tmp_path / "large.csv")


def test_a_small_parquet_that_unpacks_to_much_is_refused(tmp_path):
    """100,000 rows of one text of a million bytes: 100 GB, in a file of 100 KB."""
    file = tmp_path / "bomb.parquet"
    bomb = pd.DataFrame({"prediction_id": ID, "label": pd.Categorical(["x" * 1_000_000]).repeat(MOST_ROWS)})
    bomb.to_parquet(file)
    assert file.stat().st_size < 1_000_000
    with pytest.raises(LabelFileError, match="label holds 1,000,000 bytes in a cell"):
        read_labels(file)
    pd.DataFrame({"prediction_id": [ID], "label": [["cat"]]}).to_parquet(file)
    with pytest.raises(LabelFileError, match="a text was expected"):
        read_labels(file)
    plain = pd.DataFrame({"prediction_id": [f"{row}" + "x" * 999 for row in range(80_000)], "label": "cat"})
    plain.to_parquet(file, compression="zstd")
    assert file.stat().st_size < 8_000_000
    with pytest.raises(LabelFileError, match="bytes unpacked"):
        read_labels(file)


def test_a_parquet_of_numbers_and_of_too_many_rows(tmp_path):
    pd.DataFrame({"prediction_id": [ID], "label": [7], "more": [None]}).to_parquet(tmp_path / "numbers.parquet")
    assert read_labels(tmp_path / "numbers.parquet") == [(ID, "7", "file:numbers.parquet")]
    pd.DataFrame({"prediction_id": ["1"] * (MOST_ROWS + 1), "label": "cat"}).to_parquet(tmp_path / "many.parquet")
    with pytest.raises(LabelFileError, match="more than"):
        read_labels(tmp_path / "many.parquet")


def test_a_spreadsheets_mark_of_utf_8_is_no_part_of_a_name(tmp_path):
    (tmp_path / "labels.csv").write_bytes(f"\ufeffprediction_id,label,source\r\n{ID}, cat ,\r\n".encode())
    assert read_labels(tmp_path / "labels.csv") == [(ID, "cat", "file:labels.csv")]
