"""Archives are unpacked whole and harmless, or refused."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from flywheel.data import archives
from flywheel.data.archives import ArchiveError, unpack


def tar(path: Path, *members: tuple[str, bytes], links: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    with tarfile.open(path, "w:xz" if path.suffix == ".xz" else "w:gz") as packed:
        for link in links:
            packed.addfile(link)
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return path


def below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


MEMBERS = (("a/one.jpg", b"1"), ("a/b/two.jpg", b"22"))


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar.xz", "X.ZIP"])
def test_every_kind_unpacks_to_the_same_files(tmp_path: Path, name: str) -> None:
    make = zipped if name.lower().endswith("zip") else tar
    assert unpack(make(tmp_path / name, *MEMBERS), tmp_path / "out") == 2
    assert below(tmp_path / "out") == dict(MEMBERS)


@pytest.mark.parametrize("name", ["../evil.jpg", "a/../../evil.jpg", "/nowhere/evil.jpg", "a\\..\\evil.jpg"])
@pytest.mark.parametrize("kind", ["x.tar.gz", "x.zip"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    make = zipped if kind.endswith("zip") else tar
    with pytest.raises(ArchiveError, match="below its own folder"):
        unpack(make(tmp_path / kind, (name, b"x")), tmp_path / "out" / "deep")
    assert not list(tmp_path.rglob("evil.jpg"))


def test_links_and_devices_are_left_out_so_nothing_is_written_through_them(tmp_path: Path) -> None:
    soft, hard, device = tarfile.TarInfo("a"), tarfile.TarInfo("h.jpg"), tarfile.TarInfo("d.jpg")
    soft.type, soft.linkname = tarfile.SYMTYPE, str(tmp_path)
    hard.type, hard.linkname = tarfile.LNKTYPE, "/etc/hostname"
    device.type = tarfile.CHRTYPE
    unpack(tar(tmp_path / "x.tar.gz", ("a/evil.jpg", b"x"), links=(soft, hard, device)), tmp_path / "out")
    assert below(tmp_path / "out") == {"a/evil.jpg": b"x"}
    assert not (tmp_path / "evil.jpg").exists()
    assert not (tmp_path / "out" / "a").is_symlink()


def test_a_link_in_a_zip_is_left_out(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    unpack(zipped(tmp_path / "x.zip", (link, b"/etc/hostname"), ("a.jpg", b"1")), tmp_path / "out")
    assert below(tmp_path / "out") == {"a.jpg": b"1"}


@pytest.mark.parametrize("name", ["bomb.tar.gz", "bomb.tar.xz", "bomb.zip"])
def test_a_bomb_is_refused_before_it_is_unpacked_whole(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SMALL_BYTES", 1024**2)
    make = zipped if name.endswith("zip") else tar
    with pytest.raises(ArchiveError, match="at most"):
        unpack(make(tmp_path / name, ("zeros.jpg", bytes(16 * 1024**2))), tmp_path / "out")
    assert sum(map(len, below(tmp_path / "out").values())) <= 3 * 1024**2


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 1)
    with pytest.raises(ArchiveError, match="at most 1 files"):
        unpack(tar(tmp_path / "x.tar.gz", *MEMBERS), tmp_path / "out")


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tar.xz", "x.zip"])
def test_a_damaged_archive_is_refused_by_name(tmp_path: Path, name: str) -> None:
    make = zipped if name.endswith("zip") else tar
    whole = make(tmp_path / name, *((f"{n}.jpg", bytes(range(256)) * 40) for n in range(20)))
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(ArchiveError, match=name):
        unpack(whole, tmp_path / "out")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(ArchiveError, match=r"text\.zip: a whole archive expected \(\.tar\.gz, .*\.zip\), unreadable: "):
        unpack(tmp_path / "text.zip", tmp_path / "out")
