"""Identity is content, on any machine and in any order."""

from pathlib import Path

import pytest

from flywheel.identity import canonical_json, code_version, digest, digest_of_file, digest_of_lines, name_of


def test_identity_is_content_not_order() -> None:
    assert name_of("ds", {"a": 1, "b": [2, 3]}) == name_of("ds", {"b": [2, 3], "a": 1})
    assert name_of("ds", {"a": 1}) != name_of("ds", {"a": 2})


def test_a_name_is_a_prefix_and_twelve_digits() -> None:
    # printf '{"a":1}' | sha256sum
    assert digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    assert name_of("ds", {"a": 1}) == "ds-015abd7f5cc5"


def test_a_value_without_json_is_refused() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        canonical_json({"loss": float("nan")})


def test_lines_do_not_run_into_each_other() -> None:
    assert digest_of_lines(["ab", "c"]) != digest_of_lines(["a", "bc"])


def test_code_version_sees_names_and_contents_of_the_named_rooms_only(tmp_path: Path) -> None:
    for room in ("data", "model", "evaluation"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text("x = 1\n")
    before = code_version(tmp_path, ["data", "model"])
    (tmp_path / "evaluation" / "a.py").write_text("x = 2\n")
    assert code_version(tmp_path, ["data", "model"]) == before
    (tmp_path / "model" / "a.py").write_text("x = 2\n")
    assert code_version(tmp_path, ["data", "model"]) != before
    assert code_version(tmp_path, ["model", "data"]) == code_version(tmp_path, ["data", "model"])


def test_a_room_may_be_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "policies.py").write_text("x = 1\n")
    before = code_version(tmp_path, ["policies.py"])
    (tmp_path / "policies.py").write_text("x = 2\n")
    assert code_version(tmp_path, ["policies.py"]) != before


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert digest_of_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
