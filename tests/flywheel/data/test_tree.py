"""Which files of a folder are images, of which class and split."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.data.tree import TreeError, read_tree


def files(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def listed(root: Path) -> list[tuple[str, str, str]]:
    return [(file.split, file.label, file.path) for file in read_tree(root).files]


def test_class_folders_alone_have_no_split(tmp_path: Path) -> None:
    root = files(tmp_path, "dog/b.jpg", "cat/x/deep.PNG", "cat/a.jpeg")
    assert listed(root) == [("", "cat", "cat/a.jpeg"), ("", "cat", "cat/x/deep.PNG"), ("", "dog", "dog/b.jpg")]


def test_split_names_of_all_kinds_are_known(tmp_path: Path) -> None:
    root = files(tmp_path, "Training/cat/a.jpg", "testing/cat/b.jpg", "validation/cat/c.jpg", "eval/dog/d.jpg")
    assert [(split, path) for split, _, path in listed(root)] == [
        ("test", "testing/cat/b.jpg"),
        ("test", "eval/dog/d.jpg"),
        ("train", "Training/cat/a.jpg"),
        ("val", "validation/cat/c.jpg"),
    ]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert [label for _, label, _ in listed(files(tmp_path, "train/a.jpg", "car/b.jpg"))] == ["car", "train"]


def test_classes_beside_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="extra beside them"):
        read_tree(files(tmp_path, "train/cat/a.jpg", "extra/b.jpg"))


def test_wrapping_folders_are_descended_into(tmp_path: Path) -> None:
    root = files(tmp_path, "wrap/inner/train/cat/a.jpg", "wrap/inner/test/cat/b.jpg", "__MACOSX/x/y.jpg")
    assert listed(root)[0] == ("test", "cat", "wrap/inner/test/cat/b.jpg")


def test_what_is_no_image_by_name_is_left_aside_and_counted(tmp_path: Path) -> None:
    root = files(tmp_path, "cat/a.jpg", "cat/README.txt", "cat/.DS_Store", "dog/Thumbs.db", "dog/b.png", "loose.jpg")
    tree = read_tree(root)
    assert [file.path for file in tree.files] == ["cat/a.jpg", "dog/b.png"]
    assert tree.ignored == {".txt": 1, "hidden": 1, ".db": 1, "image outside a class folder": 1}
    assert tree.classes == ("cat", "dog")


def test_a_folder_without_images_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match=r"<class>/<image> or <split>/<class>/<image> expected.*1 \.txt"):
        read_tree(files(tmp_path, "cat/a.txt"))


def test_one_class_has_one_name_however_its_accents_are_stored(tmp_path: Path) -> None:
    root = files(tmp_path, "train/caf\u00e9/a.jpg", "test/cafe\u0301/b.jpg")
    assert read_tree(root).classes == ("caf\u00e9",)
    assert listed(root)[0][2] == "test/cafe\u0301/b.jpg", "the path stays as on disk"


def test_linked_class_folders_count(tmp_path: Path, tree: Callable[..., Path]) -> None:
    real = files(tmp_path / "real", "a.jpg")
    root = files(tmp_path / "root", "dog/b.jpg")
    (root / "cat").symlink_to(real)
    assert [label for _, label, _ in listed(root)] == ["cat", "dog"]
