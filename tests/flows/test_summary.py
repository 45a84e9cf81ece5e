"""The summary names what was taken out and where it is listed; names of files are shown as they are."""

import io
from pathlib import Path

from rich.console import Console

from flows.summary import print_data
from flywheel.records import (
    DatasetVersion,
    ExpectationResult,
    ImageIndex,
    PreparedData,
    Severity,
    Source,
    ValidationResult,
)
from flywheel.settings import TrainingParameters

PARAMETERS = TrainingParameters.model_validate({"data": {"source": "my photos", "subset": None}})


def prepared(tmp_path: Path, example: str) -> PreparedData:
    source = Source("photos", tmp_path, "photos")
    index = ImageIndex("idx-0123456789ab", tmp_path / "index.parquet", source, 50, ("cat", "dog"))
    finding = ExpectationResult(
        expectation="expect_column_values_to_be_in_set",
        subject="decode_ok",
        description="Every image can be decoded",
        severity=Severity.WARNING,
        success=False,
        observed="1 of 50 rows",
        unexpected_count=1,
        unexpected_rows=(3,),
        examples=(example,),
    )
    version = DatasetVersion(
        id="ds-0123456789ab",
        folder=tmp_path / "ds-0123456789ab",
        source="photos",
        index_id=index.id,
        classes=("cat", "dog"),
        counts={"train": 40, "frozen": 9},
        size=32,
        filter="bicubic",
        evaluation_set_id="evalset-0123456789ab",
        quarantined=1,
        left_out=2,
        left_out_list=tmp_path / "idx-0123456789ab" / "version.csv",
    )
    return PreparedData(source, index, version, (ValidationResult("images", index.id, (finding,)),))


def printed(data: PreparedData, parameters: TrainingParameters = PARAMETERS) -> str:
    out = io.StringIO()
    print_data(Console(file=out, width=240), data, parameters, 65.0)
    return out.getvalue()


def test_what_was_taken_out_is_counted_and_its_list_named(tmp_path: Path) -> None:
    said = printed(prepared(tmp_path, "cat/a.jpg"))
    assert "1 quarantined, with reasons:" in said
    assert "quarantine/idx-0123456789ab.csv" in said
    assert "2 left out as copies:" in said
    assert "idx-0123456789ab/version.csv" in said
    assert "2 classes: 40 train, 9 frozen" in said
    assert "Done in 1 min 05 s." in said


def test_a_file_name_is_no_markup(tmp_path: Path) -> None:
    assert "(first cat/[bold red]x[/].jpg)" in printed(prepared(tmp_path, "cat/[bold red]x[/].jpg"))


def test_the_next_commands_speak_of_the_same_data(tmp_path: Path) -> None:
    said = printed(prepared(tmp_path, "cat/a.jpg"))
    assert said.endswith("  make train SOURCE='my photos' SUBSET=all\n  make run SOURCE='my photos' SUBSET=all\n")


def test_who_has_not_tried_images_of_their_own_is_told_how(tmp_path: Path) -> None:
    said = printed(prepared(tmp_path, "cat/a.jpg"), TrainingParameters())
    assert said.endswith("  make train\n  make run\n  make run SOURCE=/path/to/your/class/folders\n")
