"""One row an image, from one reading of each file."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flywheel.data import index as module
from flywheel.data.decode import image_id
from flywheel.data.descriptors import descriptors
from flywheel.data.index import COLUMNS, DESCRIPTOR, build_index, read_index, unpack_descriptors
from flywheel.data.measurements import STATISTICS, statistics
from flywheel.data.tree import TreeError
from flywheel.paths import Paths
from flywheel.records import Source

Make = Callable[..., Path]


def source(folder: Path) -> Source:
    return Source(folder.name, folder, str(folder))


def test_every_image_is_a_row_with_what_was_measured(
    tmp_path: Path, tree: Make, picture: Callable, save: Callable
) -> None:
    folder = tree(count=3)
    save(folder / "cat" / "wide.png", picture(5)[:16])
    index = build_index(source(folder), Paths(tmp_path))
    frame = read_index(index, with_descriptors=True)
    assert tuple(frame.columns) == (*COLUMNS, DESCRIPTOR)
    assert frame["path"].tolist() == [
        *(f"cat/000{number}.png" for number in range(3)),
        "cat/wide.png",
        *(f"dog/000{number}.png" for number in range(3)),
    ]
    assert (index.images, index.classes) == (7, ("cat", "dog"))
    row = frame.loc[5]
    image = picture(1001)
    assert row["image_id"] == image_id(image)
    assert np.array_equal(row[list(STATISTICS)].to_numpy(np.float32), statistics(image[None])[0])
    assert np.array_equal(unpack_descriptors(frame[DESCRIPTOR])[5], descriptors(image[None])[0])
    assert frame.loc[3, ["width", "height", "mode"]].tolist() == [32, 16, "RGB"]
    assert row["bytes"] == (folder / "dog/0001.png").stat().st_size


def test_bad_files_are_rows_with_a_reason_and_never_a_crash(tmp_path: Path, tree: Make) -> None:
    folder = tree(count=1)
    (folder / "cat/empty.jpg").write_bytes(b"")
    (folder / "cat/text.jpg").write_text("hello")
    (folder / "cat/cut.png").write_bytes((folder / "cat/0000.png").read_bytes()[:-30])
    (folder / "cat/gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "cat/pipe.png")
    (folder / os.fsdecode(b"cat/\xff.png")).write_bytes(b"x")
    frame = read_index(build_index(source(folder), Paths(tmp_path))).set_index("path")
    assert frame["decode_ok"].sum() == 2
    reasons = frame[~frame["decode_ok"]]["error"].to_dict()
    assert reasons.pop("cat/cut.png").startswith("it is damaged")
    assert reasons == {
        "cat/empty.jpg": "the file is empty.",
        "cat/gone.png": "it could not be read: No such file or directory.",
        "cat/pipe.png": "it is not a plain file.",
        "cat/text.jpg": "it is in no image format that is known here.",
        "cat/\\xff.png": "its name is not valid UTF-8; rename it.",
    }
    bad = frame[~frame["decode_ok"]]
    assert bad["image_id"].isna().all()
    assert bad[list(STATISTICS)].isna().all(axis=None)


def test_a_file_that_vanishes_while_indexing_is_a_row(
    tmp_path: Path, tree: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tree(count=2)
    real = module.read_image_file

    def reading(path: Path) -> bytes:
        (folder / "dog/0001.png").unlink(missing_ok=True)
        return real(path)

    monkeypatch.setattr(module, "read_image_file", reading)
    frame = read_index(build_index(source(folder), Paths(tmp_path)))
    assert frame["decode_ok"].tolist() == [True, True, True, False]
    assert "could not be read" in frame["error"].iloc[3]


def test_an_unchanged_source_is_not_read_again_and_a_changed_one_is(
    tmp_path: Path, tree: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, paths = tree(count=2), Paths(tmp_path)
    first = build_index(source(folder), paths)
    read: list[Path] = []
    real = module.read_image_file
    monkeypatch.setattr(module, "read_image_file", lambda path: (read.append(path), real(path))[1])
    assert build_index(source(folder), paths) == first
    assert read == []
    (folder / "cat/0000.png").write_bytes((folder / "cat/0001.png").read_bytes())
    second = build_index(source(folder), paths)
    assert second.id != first.id
    assert len(read) == 4
    shutil.rmtree(second.path.parent)
    assert build_index(source(folder), paths).id == second.id, "a deleted index is made again"


def test_a_damaged_index_is_made_again(tmp_path: Path, tree: Make) -> None:
    folder, paths = tree(count=2), Paths(tmp_path)
    first = build_index(source(folder), paths)
    whole = first.path.read_bytes()
    first.path.write_bytes(whole[:100])
    assert build_index(source(folder), paths) == first
    assert first.path.read_bytes() == whole


def test_a_copy_in_another_place_and_file_order_has_the_same_index(tmp_path: Path, tree: Make) -> None:
    folder = tree(count=4)
    copy = tmp_path / "copy"
    for path in sorted(folder.rglob("*.png"), reverse=True):
        target = copy / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    one, other = build_index(source(folder), Paths(tmp_path / "a")), build_index(source(copy), Paths(tmp_path / "b"))
    assert one.id == other.id
    assert one.path.read_bytes() == other.path.read_bytes()


def test_a_large_image_is_measured_smaller_and_kept_whole(tmp_path: Path, picture: Callable, save: Callable) -> None:
    save(tmp_path / "s/cat/big.png", picture(0, 2100))
    save(tmp_path / "s/dog/a.png", picture(1))
    frame = read_index(build_index(source(tmp_path / "s"), Paths(tmp_path)))
    assert frame.loc[0, "width"] == 2100
    assert frame.loc[0, "brightness"] == pytest.approx(picture(0, 2100).mean() / 255, abs=0.02)


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="no image in a class folder found"):
        build_index(source(tmp_path), Paths(tmp_path))
