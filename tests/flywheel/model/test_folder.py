import json

import pytest

from flywheel.identity import digest_of_file
from flywheel.model.folder import (
    MANIFEST,
    ModelError,
    check_file,
    list_files,
    model_id,
    partial_folder,
    publish,
    read_model,
    verify,
    write_manifest,
)
from flywheel.records import DatasetVersion, Preprocessing, TrainedModel
from flywheel.settings import Recipe


@pytest.fixture
def version(tmp_path):
    return DatasetVersion("ds-1", tmp_path, "digits", "idx-1", ("a", "b"), {}, 8, "box", "evalset-1")


@pytest.fixture
def model(tmp_path):
    """A whole partial folder with one file."""
    folder = partial_folder(tmp_path / "model-1")
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    (folder / "request.json").write_text("{}")
    preprocessing = Preprocessing(8, "box", (0.5,) * 3, (0.5,) * 3)
    record = TrainedModel(
        *("model-1", folder, "ds-1", "task-1", "airbench_small", ("a", "b"), preprocessing),
        *(10, 0, 1, "cpu", 1, 1, 0.5, "", 1.0, 2.0),
    )
    write_manifest(folder, record, list_files(folder, ["weights.safetensors"]), {})
    return record


def test_all_that_decides_the_weights_is_in_the_id_and_nothing_else(version, tmp_path):
    first = model_id(version, Recipe(), "cpu")
    assert first.startswith("model-")
    others = {
        model_id(version, Recipe(seed=1), "cpu"),
        model_id(version, Recipe(threads=2), "cpu"),
        model_id(version, Recipe(epochs=6), "cpu"),
        model_id(version, Recipe(), "cuda"),
        model_id(version, Recipe(), "cpu", "model-2"),
        model_id(DatasetVersion(**{**vars(version), "id": "ds-2"}), Recipe(), "cpu"),
    }
    assert len(others | {first}) == 7
    moved = DatasetVersion(**{**vars(version), "folder": tmp_path / "elsewhere", "quarantined": 3})
    assert model_id(moved, Recipe(), "cpu") == first


def test_a_published_folder_is_read_where_it_lies(model, tmp_path):
    published = publish(model.folder, tmp_path / "model-1")
    assert published.folder == tmp_path / "model-1"
    assert sorted(path.name for path in published.folder.iterdir()) == [MANIFEST, "weights.safetensors"]
    assert not model.folder.exists()
    moved = published.folder.rename(tmp_path / "copy")
    assert verify(moved).folder == moved


def test_a_folder_without_manifest_is_no_model(model):
    (model.folder / MANIFEST).unlink()
    with pytest.raises(ModelError, match=r"model\.json expected, none found"):
        read_model(model.folder)


@pytest.mark.parametrize("text", ["", "[]", '{"model": {}, "files": {}}', '{"model": null}'])
def test_a_broken_manifest_is_an_error_that_names_it(model, text):
    (model.folder / MANIFEST).write_text(text)
    with pytest.raises(ModelError, match=r"model\.json: .*(?s:.)*\. Delete the folder and run again what made it\.$"):
        read_model(model.folder)


def test_a_changed_file_is_found(model, tmp_path):
    (model.folder / "weights.safetensors").write_bytes(b"other")
    again = r"Delete the folder and run again what made it: its recipe and dataset stand in model\.json"
    with pytest.raises(ModelError, match=rf"weights\.safetensors: SHA-256 .* expected, .* found\. {again}"):
        publish(model.folder, tmp_path / "model-1")
    assert not (tmp_path / "model-1").exists()


def test_a_missing_file_is_found_without_hashing(model):
    (model.folder / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match="1 files expected, 1 missing; first weights"):
        read_model(model.folder)


def test_a_file_that_the_manifest_doesnt_list_is_not_trusted(model):
    with pytest.raises(ModelError, match="not listed"):
        check_file(model.folder, "request.json")


def test_the_manifest_lists_the_hashes_of_the_files(model):
    document = json.loads((model.folder / MANIFEST).read_text())
    path = model.folder / "weights.safetensors"
    assert document["files"] == {"weights.safetensors": digest_of_file(path)}
