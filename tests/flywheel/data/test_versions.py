"""The same images give the same version, with the same bytes, once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flywheel.data import versions
from flywheel.data.decode import decode, image_id, resize
from flywheel.data.folders import BUILDING
from flywheel.data.index import build_index, read_index
from flywheel.data.measurements import STATISTICS
from flywheel.data.versions import (
    VersionError,
    build_version,
    check_files,
    load_version,
    open_arrays,
    original_bytes,
    read_left_out,
    told_elsewhere,
    version_table,
)
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, Side, Source
from flywheel.settings import DataParameters

Make = Callable[..., Path]
SMALL = DataParameters(subset=20, size=16)


def build(folder: Path, home: Path, parameters: DataParameters = SMALL, out: tuple[int, ...] = ()) -> DatasetVersion:
    paths = Paths(home)
    index = build_index(Source(folder.name, folder, str(folder)), paths)
    return build_version(index, out, parameters, paths)


def contents(version: DatasetVersion) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in version.folder.iterdir() if path.name != "manifest.json"}


def test_every_row_is_one_image_packed_with_its_original(tmp_path: Path, tree: Make) -> None:
    folder = tree()
    version = build(folder, tmp_path)
    arrays, table = open_arrays(version), version_table(version)
    assert isinstance(arrays.images, np.memmap)
    assert arrays.images.shape == (80, 16, 16, 3)
    assert sum(version.counts.values()) == len(table) == 80
    assert version.counts["train"] == 20
    assert arrays.statistics.shape == (80, len(STATISTICS))
    assert sorted(arrays.ids) == arrays.ids.tolist()
    for row in range(80):
        original = (folder / table.loc[row, "path"]).read_bytes()
        image = decode(original)
        assert image_id(image) == arrays.ids[row] == table.loc[row, "image_id"]
        assert np.array_equal(arrays.images[row], resize(image, 16, "bicubic"))
        assert version.classes[arrays.labels[row]] == table.loc[row, "path"].split("/")[0]
        assert original_bytes(Paths(tmp_path), str(arrays.ids[row])) == original
    for side in Side:
        assert len(arrays.side(side)) == version.counts.get(side, 0)
        assert (table.loc[arrays.side(side), "side"] == str(side)).all()


def test_two_copies_with_files_in_another_order_give_the_same_id_and_bytes(tmp_path: Path, tree: Make) -> None:
    folder = tree()
    copy = tmp_path / "copy"
    for path in sorted(folder.rglob("*.png"), reverse=True):
        (copy / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy / path.relative_to(folder))
    one, other = build(folder, tmp_path / "a"), build(copy, tmp_path / "b")
    assert one.id == other.id
    assert one.evaluation_set_id == other.evaluation_set_id
    assert contents(one) == contents(other)


@pytest.mark.parametrize(
    "change",
    [{"size": 24}, {"filter": "box"}, {"subset": 21}, {"subset_seed": 1}],
    ids=lambda change: next(iter(change)),
)
def test_what_is_part_of_the_identity_changes_it(tmp_path: Path, tree: Make, change: dict[str, object]) -> None:
    folder = tree()
    one = build(folder, tmp_path)
    other = build(folder, tmp_path, SMALL.model_copy(update=change))
    assert one.id != other.id
    assert one.evaluation_set_id == other.evaluation_set_id, "the frozen images are the same"
    assert one.task_id == other.task_id


def test_a_finished_version_is_returned_without_decoding(
    tmp_path: Path, tree: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tree()
    version = build(folder, tmp_path)

    def refuse(data: bytes) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(versions, "decode", refuse)
    assert build(folder, tmp_path) == version
    shutil.rmtree(tmp_path / "data" / "interim")
    assert build(folder, tmp_path) == version, "known by its content, without the note in data/interim"


def test_quarantined_rows_are_not_in_the_version(tmp_path: Path, tree: Make) -> None:
    folder = tree()
    paths = Paths(tmp_path)
    index = build_index(Source("s", folder, "s"), paths)
    version = build_version(index, [0, 50], SMALL, paths)
    gone = read_index(index)["image_id"].iloc[[0, 50]]
    assert version.quarantined == 2
    assert len(version_table(version)) == 78
    assert not gone.isin(version_table(version)["image_id"]).any()


def test_left_out_images_are_listed_with_the_reason(tmp_path: Path, tree: Make) -> None:
    folder = tree()
    shutil.copyfile(folder / "cat/0000.png", folder / "cat/copy.png")
    shutil.copyfile(folder / "cat/0001.png", folder / "dog/conflict.png")
    version = build(folder, tmp_path)
    gone = read_left_out(version)
    assert gone["path"].tolist() == ["cat/0001.png", "cat/copy.png", "dog/conflict.png"]
    assert version.left_out == 3
    assert "other labels" in gone.loc[0, "why"]
    assert "exact copy" in gone.loc[1, "why"]


def test_undecodable_images_are_not_in_the_version_even_if_nobody_quarantined_them(tmp_path: Path, tree: Make) -> None:
    folder = tree()
    (folder / "cat/text.jpg").write_text("hello")
    assert len(version_table(build(folder, tmp_path))) == 80


def test_adding_images_keeps_the_bytes_already_held(tmp_path: Path, tree: Make) -> None:
    first = build(tree(), tmp_path)
    packs = {path: path.stat().st_mtime_ns for path in Paths(tmp_path).images.iterdir()}
    second = build(tree(count=3, first=100), tmp_path)
    assert first.id != second.id
    after = {path: path.stat().st_mtime_ns for path in Paths(tmp_path).images.iterdir()}
    assert packs.items() <= after.items()
    added = sum(path.stat().st_size for path in after.keys() - packs.keys() if path.suffix == ".bin")
    assert added == sum(path.stat().st_size for path in (tmp_path / "source").rglob("01*.png"))
    frozen = [set(version_table(one).query("side == 'frozen'")["image_id"]) for one in (first, second)]
    assert frozen[0] <= frozen[1]


def test_a_damaged_version_is_noticed_and_made_again(tmp_path: Path, tree: Make) -> None:
    folder = tree()
    version = build(folder, tmp_path)
    whole = contents(version)
    images = version.folder / "images.npy"
    images.write_bytes(whole["images.npy"][:-1])
    with pytest.raises(VersionError, match=r"bytes expected, .* found. Delete the folder .* run 'make data'"):
        load_version(version.folder)
    assert build(folder, tmp_path) == version
    assert contents(version) == whole
    images.write_bytes(bytes([whole["images.npy"][0] ^ 1]) + whole["images.npy"][1:])
    load_version(version.folder)  # the length is right
    with pytest.raises(VersionError, match="SHA-256"):
        check_files(version)


def test_damage_that_keeps_the_length_is_noticed_and_mended(tmp_path: Path, tree: Make) -> None:
    version = build(tree(), tmp_path)
    whole = contents(version)
    images = version.folder / "images.npy"
    images.write_bytes(whole["images.npy"][:200] + bytes(len(whole["images.npy"]) - 200))
    again = build(tree(), tmp_path)
    assert again.id == version.id
    assert contents(again) == whole


def test_frozen_images_stay_frozen_when_the_source_gets_a_test_split(tmp_path: Path, tree: Make) -> None:
    folder = tree()
    first = build(folder, tmp_path / "home")
    frozen = set(open_arrays(first).ids[open_arrays(first).side(Side.FROZEN)])
    grown = tmp_path / "grown"
    shutil.copytree(folder, grown / "train")
    shutil.copytree(tree("others", count=10, first=500), grown / "test")
    arrays = open_arrays(build(grown, tmp_path / "home"))
    assert frozen
    assert frozen < set(arrays.ids[arrays.side(Side.FROZEN)])


def test_a_training_image_that_was_moved_to_the_test_split_is_told_of(
    tmp_path: Path, tree: Make, caplog: pytest.LogCaptureFixture
) -> None:
    folder, home = tree(), tmp_path / "home"
    first = build(folder, home, SMALL.model_copy(update={"subset": None}))
    assert (first.elsewhere, told_elsewhere(first)) == (0, "")
    table = version_table(first)
    learned = [Path(path) for path in sorted(table.loc[table["side"] == str(Side.TRAIN), "path"])[:2]]
    grown = tmp_path / "grown"
    shutil.copytree(folder, grown / "train")
    shutil.copytree(tree("others", count=10, first=500), grown / "test")
    for path in learned:
        (grown / "train" / path).rename(grown / "test" / path)
    caplog.clear()
    made = build(grown, home, SMALL.model_copy(update={"subset": None}))
    told = "2 images under test/ kept the side of an earlier version, since a model may have learned from what moved "
    told += f"there: 2 train (first test/{learned[0]})"
    assert (made.elsewhere, told_elsewhere(made)) == (2, told)
    assert made.elsewhere_list is not None
    assert all(f"test/{path}," in made.elsewhere_list.read_text(encoding="utf-8") for path in learned)
    again = build(grown, home, SMALL.model_copy(update={"subset": None}))
    assert again == made
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == [f"dataset version {made.id}: {told}; all of them: {made.elsewhere_list}"] * 2


def test_what_was_left_out_is_told_of_the_input_that_was_asked_for(tmp_path: Path, tree: Make) -> None:
    folder = tree()
    plain = build(folder, tmp_path / "home")
    more = tmp_path / "more"
    shutil.copytree(folder, more)
    copied = next(path for path in sorted(more.rglob("*.png")))
    shutil.copyfile(copied, copied.with_name("zz-copy.png"))
    (copied.parent / "notes.jpg").write_text("no image")
    again = build(more, tmp_path / "home")
    assert again.id == plain.id
    assert (plain.source, again.source) == (folder.name, "more")
    assert (plain.left_out, again.left_out) == (0, 1)
    assert again.left_out_list is not None
    assert "zz-copy.png" in again.left_out_list.read_text(encoding="utf-8")


def test_missing_originals_are_packed_again(tmp_path: Path, tree: Make) -> None:
    folder = tree()
    version = build(folder, tmp_path)
    shutil.rmtree(Paths(tmp_path).images)
    shutil.rmtree(tmp_path / "data" / "interim")
    build(folder, tmp_path)
    assert original_bytes(Paths(tmp_path), str(open_arrays(version).ids[0]))


def test_a_folder_without_a_manifest_is_no_version(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match="make data"):
        load_version(tmp_path)


def test_a_file_that_changed_since_it_was_indexed_is_an_error(tmp_path: Path, tree: Make) -> None:
    folder, paths = tree(), Paths(tmp_path)
    index = build_index(Source("s", folder, "s"), paths)
    shutil.copyfile(folder / "cat/0001.png", folder / "cat/0000.png")
    with pytest.raises(VersionError, match=r"cat/0000.png: the image that was indexed expected, another one found"):
        build_version(index, (), SMALL, paths)
    (folder / "cat/0000.png").unlink()
    with pytest.raises(VersionError, match="could not be read"):
        build_version(index, (), SMALL, paths)
    assert not list(paths.datasets.glob("ds-*"))
    assert not list(paths.datasets.glob(f"{BUILDING}*"))


BUILD = """
import sys
from pathlib import Path
from flywheel.data.index import build_index
from flywheel.data.versions import build_version
from flywheel.paths import Paths
from flywheel.records import Source
from flywheel.settings import DataParameters
folder, paths = Path(sys.argv[1]), Paths(Path(sys.argv[2]))
said = lambda what, done, total: print(what, done, flush=True)
index = build_index(Source("s", folder, "s"), paths, said)
build_version(index, (), DataParameters(subset=20, size=16), paths, said)
"""


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.01])
def test_killed_while_it_is_made_a_version_is_whole_or_not_there(tmp_path: Path, tree: Make, delay: float) -> None:
    folder, home = tree(), tmp_path / "home"
    build_index(Source("s", folder, "s"), Paths(home))
    command = [sys.executable, "-c", BUILD, str(folder), str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("pack images")
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
    for found in Paths(home).datasets.glob("ds-*"):
        check_files(load_version(found))
    version = build(folder, home)
    check_files(version)
    assert contents(version) == contents(build(folder, tmp_path / "undisturbed"))
    assert not list(Paths(home).datasets.glob(f"{BUILDING}*"))
    assert not list(Paths(home).images.glob(f"{BUILDING}*"))
