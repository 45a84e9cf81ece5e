import csv
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flywheel.data.index import build_index, read_index
from flywheel.data.versions import build_version, version_table
from flywheel.paths import Paths
from flywheel.records import Severity, Source, ValidationResult
from flywheel.settings import DataParameters
from tasks.validation import ValidationFailed, check_index, check_version, quarantine, require

PARAMETERS = DataParameters(size=16, subset=None)
PER_CLASS = 30


@pytest.fixture(scope="module")
def sound_tree(tmp_path_factory):
    """train and test, cat and dog, 30 JPEGs of noise each."""
    root, noise = tmp_path_factory.mktemp("tree"), np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for number in range(PER_CLASS):
                pixels = noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{number:02}.jpg", quality=90)
    return root


@pytest.fixture
def tree(sound_tree, tmp_path):
    return shutil.copytree(sound_tree, tmp_path / "source")


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path / "home")


def index_of(tree, paths):
    return build_index(Source("tree", tree, str(tree)), paths)


def checked(tree, paths, parameters=PARAMETERS):
    index = index_of(tree, paths)
    return index, check_index(index, parameters, paths)


def warnings(result):
    return {one.description: one for one in result.failed(Severity.WARNING)}


def listed(index, paths):
    with paths.quarantine(index.id).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_sound_data_passes_both_suites_and_leaves_pages(tree, paths):
    index, found = checked(tree, paths)
    require(found)
    assert found.passed
    assert found.failed(Severity.WARNING) == ()
    assert quarantine(index, found, paths) == ()
    assert listed(index, paths) == []
    version = build_version(index, (), PARAMETERS, paths)
    finished = check_version(version, PARAMETERS, paths)
    require(finished)
    assert finished.subject == version.id
    assert finished.failed(Severity.WARNING) == ()
    pages = (paths.data_docs / "index.html").read_text()
    assert index.id in pages
    assert version.id in pages


def test_a_truncated_jpeg_and_a_text_file_are_quarantined_with_their_reasons(tree, paths):
    whole = (tree / "train/cat/03.jpg").read_bytes()
    (tree / "train/cat/03.jpg").write_bytes(whole[: len(whole) // 2])
    (tree / "train/dog/notes.jpg").write_text("these are my notes\n")
    index, found = checked(tree, paths)
    require(found)
    assert warnings(found)["Every image can be decoded"].examples == ("train/cat/03.jpg", "train/dog/notes.jpg")
    rows = quarantine(index, found, paths)
    assert list(read_index(index)["path"].iloc[list(rows)]) == ["train/cat/03.jpg", "train/dog/notes.jpg"]
    truncated, text = listed(index, paths)
    assert (truncated["path"], truncated["label"]) == ("train/cat/03.jpg", "cat")
    assert truncated["reason"].startswith("undecodable: it is damaged")
    assert text["reason"] == "undecodable: it is in no image format that is known here."
    version = build_version(index, rows, PARAMETERS, paths)
    assert version.quarantined == 2
    assert not {"train/cat/03.jpg", "train/dog/notes.jpg"} & set(version_table(version)["path"])


def test_too_many_undecodable_files_stop_with_their_names(tree, paths):
    for number in range(7):  # of 120: 5.8 %
        (tree / f"train/cat/{number:02}.jpg").write_text("no image")
    _, found = checked(tree, paths)
    with pytest.raises(ValidationFailed) as stopped:
        require(found)
    message = str(stopped.value)
    assert "Every image can be decoded (expect_column_values_to_be_in_set on decode_ok): 7 of 120 rows" in message
    assert "together 5.8% of the images, 5.0% at most" in message
    assert "train/cat/00.jpg, train/cat/01.jpg" in message
    assert "and 2 more" in message
    assert "next: Replace or remove these files" in message
    assert str(found.docs) in message


def test_a_class_that_the_test_side_lacks_stops_with_its_name(tree, paths):
    for file in (tree / "test/dog").iterdir():
        file.unlink()
    _, found = checked(tree, paths)
    with pytest.raises(ValidationFailed, match=r"Every class has usable images in split test .*: dog has 0"):
        require(found)


def test_a_class_folder_without_any_image_stops_with_its_name(tree, paths):
    (tree / "train" / "zebra").mkdir()
    _, found = checked(tree, paths)
    with pytest.raises(ValidationFailed, match=r"Every declared class has usable images .*: zebra has 0"):
        require(found)


def test_a_class_that_only_the_test_side_has_stops_with_its_name(tree, paths):
    shutil.copytree(tree / "test/cat", tree / "test/zebra")
    _, found = checked(tree, paths)
    with pytest.raises(ValidationFailed, match=r"Every class has usable images in split train .*: zebra has 0"):
        require(found)


def test_a_training_image_in_the_test_side_is_a_warning_and_leaves_the_training_side(tree, paths):
    shutil.copy(tree / "train/cat/05.jpg", tree / "test/cat/copy.jpg")
    index, found = checked(tree, paths)
    require(found)
    leak = warnings(found)["No image has an exact or near copy on another split"]
    assert leak.examples == ("test/cat/copy.jpg", "train/cat/05.jpg")
    rows = quarantine(index, found, paths)
    assert rows == ()
    version = build_version(index, rows, PARAMETERS, paths)
    require(check_version(version, PARAMETERS, paths))
    kept = version_table(version).set_index("path")["side"]
    assert kept["test/cat/copy.jpg"] == "frozen"
    assert "train/cat/05.jpg" not in kept


def test_a_brightened_copy_is_found_too(tree, paths):
    pixels = np.asarray(Image.open(tree / "train/cat/05.jpg")).astype(np.int64)
    brighter = np.clip(pixels * 0.8 + 40, 0, 255).astype(np.uint8)
    Image.fromarray(brighter).save(tree / "test/cat/copy.png")
    _, found = checked(tree, paths)
    assert "No image has an exact or near copy on another split" in warnings(found)


def test_many_training_images_in_the_test_side_stop_with_their_names(tree, paths):
    for number in range(4):  # of 64: 6.3 %
        shutil.copy(tree / f"train/cat/{number:02}.jpg", tree / f"test/cat/copy{number}.jpg")
    _, found = checked(tree, paths)
    with pytest.raises(ValidationFailed) as stopped:
        require(found)
    message = str(stopped.value)
    assert "At most 5% of split test has a copy on another split" in message
    assert "4 of 64 rows" in message
    assert "test/cat/copy0.jpg" in message


def test_an_image_under_two_labels_is_quarantined_in_all_its_copies(tree, paths):
    shutil.copy(tree / "train/cat/05.jpg", tree / "train/dog/not-a-cat.jpg")
    index, found = checked(tree, paths)
    require(found)
    assert len(quarantine(index, found, paths)) == 2
    assert {(line["path"], line["reason"]) for line in listed(index, paths)} == {
        ("train/cat/05.jpg", "not so: No image has two different labels"),
        ("train/dog/not-a-cat.jpg", "not so: No image has two different labels"),
    }


def test_a_version_that_leaks_is_stopped(tree, paths):
    """The version's table is spoilt on disk: two rows of different sides get the descriptor of one image."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    version = build_version(index_of(tree, paths), (), PARAMETERS, paths)
    rows = pq.read_table(version.folder / "rows.parquet").to_pandas()
    frozen, train = (rows.index[rows["side"] == side][0] for side in ("frozen", "train"))
    rows.at[train, "descriptor"] = rows.at[frozen, "descriptor"]
    pq.write_table(pa.Table.from_pandas(rows), version.folder / "rows.parquet")
    with pytest.raises(ValidationFailed) as stopped:
        require(check_version(version, PARAMETERS, paths))
    message = str(stopped.value)
    assert "No image has an exact or near copy on another side" in message
    assert f"2 of {len(rows):,} rows" in message
    assert rows.at[train, "path"] in message
    assert rows.at[frozen, "path"] in message


def test_unchanged_data_is_read_back_without_great_expectations(tree, paths):
    index, first = checked(tree, paths)
    code = (
        "import sys; from pathlib import Path; from flywheel.data.index import build_index;"
        "from flywheel.paths import Paths; from flywheel.records import Source; from flywheel.settings import *;"
        "from tasks.validation import check_index;"
        f"paths = Paths(Path({str(paths.home)!r})); tree = Path({str(tree)!r});"
        "index = build_index(Source('tree', tree, str(tree)), paths);"
        "found = check_index(index, DataParameters(size=16, subset=None), paths);"
        "print(found.subject, len(found.results), 'great_expectations' in sys.modules)"
    )
    project = Path(__file__).parents[2]
    printed = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == [index.id, str(len(first.results)), "False"]


def test_another_limit_or_a_lost_page_or_a_damaged_record_is_validated_again(tree, paths):
    index, first = checked(tree, paths)
    stricter = check_index(index, PARAMETERS.model_copy(update={"largest_leak_share": 0.01}), paths)
    assert stricter.docs != first.docs
    first.docs.unlink()
    assert check_index(index, PARAMETERS, paths) == first
    assert first.docs.is_file()
    record = paths.validations / f"{first.docs.stem}.json"
    whole = record.read_bytes()
    record.write_bytes(whole[: len(whole) // 2])
    assert check_index(index, PARAMETERS, paths) == first
    assert record.read_bytes() == whole


def test_a_suite_without_results_is_no_pass():
    with pytest.raises(ValidationFailed, match="nothing was validated"):
        require(ValidationResult("images", "idx-000000000000", ()))


def test_a_result_of_another_index_quarantines_nothing(tree, paths):
    index, found = checked(tree, paths)
    with pytest.raises(ValueError, match="idx-other"):
        quarantine(index, replace(found, subject="idx-other"), paths)


def test_names_that_are_html_stay_text(tree, paths):
    """Great Expectations does not escape the values that it shows: here the class that split test lacks."""
    shutil.copytree(tree / "train/cat", tree / "train/<i onclick=run()>$x {{7*7}}")
    (tree / "train/cat/<b>broken.jpg").write_text("no image")
    _, found = checked(tree, paths)
    page = found.docs.read_text()
    ours, theirs = page.split("As Great Expectations tells it")
    assert "&lt;b&gt;broken.jpg" in ours
    for part in (ours, theirs):
        assert "&lt;i onclick=run()&gt;" in part
        assert "{{7*7}}" in part
    assert "<i onclick" not in page
    assert "<b>" not in page


def test_pages_need_no_network_and_no_script(tree, paths):
    (tree / "train/cat/03.jpg").write_text("no image")
    _, found = checked(tree, paths)
    for page in (found.docs, paths.data_docs / "index.html"):
        text = page.read_text()
        assert "http://" not in text
        assert "https://" not in text
        assert "<script" not in text
        assert "src=" not in text
        assert "<style>" in text
