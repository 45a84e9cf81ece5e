"""Original bytes come back as they were, are kept once, and a killed writer leaves nothing."""

from pathlib import Path

import pytest

from flywheel.data.originals import OriginalError, adding, held_ids, original_bytes
from flywheel.paths import Paths

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def test_bytes_come_back_by_id_from_any_pack(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    with adding(paths) as pack:
        pack.add(B, b"bee")
        pack.add(A, b"")
    with adding(paths) as pack:
        pack.add(C, b"sea\0\0")
    assert [original_bytes(paths, image) for image in (A, B, C)] == [b"", b"bee", b"sea\0\0"]
    assert held_ids(paths.images) == {A.encode(), B.encode(), C.encode()}
    with pytest.raises(OriginalError, match="no original"):
        original_bytes(paths, "d" * 64)


def test_held_bytes_are_not_written_again(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    for _ in range(2):
        with adding(paths) as pack:
            pack.add(A, b"one")
            pack.add(A, b"one")
    assert sum(path.stat().st_size for path in paths.images.glob("*.bin")) == 3
    with adding(paths) as pack:
        pack.add(A, b"another encoding of the same pixels")
        pack.add(B, b"two")
    assert original_bytes(paths, A) == b"one"
    assert sum(path.stat().st_size for path in paths.images.glob("*.bin")) == 6


def test_an_error_leaves_no_pack(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    with pytest.raises(RuntimeError), adding(paths) as pack:  # noqa: PT012
        pack.add(A, b"one")
        raise RuntimeError
    assert list(paths.images.iterdir()) == []


def test_a_pack_without_its_index_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    with adding(paths) as pack:
        pack.add(A, b"one")
    next(paths.images.glob("*.npy")).unlink()  # killed between the two
    assert held_ids(paths.images) == set()
    with adding(paths) as pack:
        pack.add(A, b"one")
    assert original_bytes(paths, A) == b"one"


def test_a_pack_that_was_cut_or_removed_holds_nothing(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    with adding(paths) as pack:
        pack.add(A, b"ant")
    file = next(paths.images.glob("pack-*.bin"))
    file.write_bytes(b"an")
    assert held_ids(paths.images) == set()
    file.unlink()
    with pytest.raises(OriginalError, match="no original"):
        original_bytes(paths, A)
    with adding(paths) as pack:
        pack.add(A, b"ant")
    assert original_bytes(paths, A) == b"ant"
