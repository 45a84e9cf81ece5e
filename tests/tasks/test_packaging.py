"""From a model to a Bento that answers as the model does: built and served for real, once for all tests here."""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from flywheel.model.folder import ModelError
from flywheel.paths import Paths
from flywheel.records import PackagedBento, TrainedModel
from tasks import packaging
from tasks.packaging import package_model, serve_command
from tasks.serving import ServingError, served

ONE_WORKER = {"FLYWHEEL_SERVICE_WORKERS": "1", "FLYWHEEL_SERVICE_LARGEST_BODY": "100000", "OMP_NUM_THREADS": "1"}


def jpeg() -> bytes:
    file = BytesIO()
    pixels = np.random.default_rng(3).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def address(bento: PackagedBento, paths: Paths) -> Iterator[str]:
    with served(bento.tag, paths.bentoml, 120, ONE_WORKER) as address:
        yield address


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def below(folder: Path) -> dict[str, bytes]:
    """The content of all files but BentoML's note of the latest one."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in files_under(folder) if path.name != "latest"}


def test_the_bento_carries_its_identities_pins_and_no_pickle(bento: PackagedBento, trained_model: TrainedModel) -> None:
    assert bento.tag.startswith(f"classifier:{trained_model.id.removeprefix('model-')}-")
    assert bento.model_id == trained_model.id
    description = (bento.folder / "bento.yaml").read_text()
    for identity in (trained_model.id, trained_model.dataset_id, trained_model.task_id, bento.model_tag):
        assert identity in description
    requirements = (bento.folder / "env" / "python" / "requirements.txt").read_text()
    assert "://" not in requirements
    assert all("==" in line for line in requirements.splitlines() if line.strip())
    assert not {"prefect", "wandb", "great-expectations", "pandas"} & {line.partition("==")[0] for line in requirements}
    stored = files_under(bento.folder.parents[2] / "models")
    assert {"model.json", "weights.safetensors", "model.yaml"} <= {path.name for path in stored}
    assert "logits.npy" in {path.name for path in stored if path.parent.name == "reference"}
    assert not [path for path in stored if path.suffix in {".pt", ".pth", ".pkl", ".pickle"}]


def test_nothing_of_this_machine_is_written_into_the_bento(bento: PackagedBento, paths: Paths) -> None:
    own = [path for path in files_under(bento.folder) if "src" not in path.relative_to(bento.folder).parts]
    assert own
    assert not [path for path in own if str(paths.home) in path.read_text(encoding="utf-8")]


def test_packaging_again_builds_nothing(
    bento: PackagedBento, trained_model: TrainedModel, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaging, "_run_build", lambda *_: pytest.fail("built again"))
    again = package_model(trained_model, None, paths)
    assert dataclasses.replace(again, smoke_test="") == dataclasses.replace(bento, smoke_test="")


def damage_the_weights(bento: PackagedBento, stored_model: Path) -> None:
    weights = stored_model / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def empty_the_model(bento: PackagedBento, stored_model: Path) -> None:
    shutil.rmtree(stored_model)
    stored_model.mkdir()


def remove_the_description(bento: PackagedBento, stored_model: Path) -> None:
    (bento.folder / "bento.yaml").unlink()


def remove_the_sources(bento: PackagedBento, stored_model: Path) -> None:
    shutil.rmtree(bento.folder / "src")


def change_a_source(bento: PackagedBento, stored_model: Path) -> None:
    (bento.folder / "src" / "flywheel" / "records.py").write_text("")


@pytest.mark.parametrize(
    ("damage", "removed"),
    [
        (damage_the_weights, "models"),
        (empty_the_model, "models"),
        (remove_the_description, "bentos"),
        (remove_the_sources, "bentos"),
        (change_a_source, "bentos"),
    ],
)
def test_what_was_damaged_in_the_store_is_removed_and_built_again(
    bento: PackagedBento,
    trained_model: TrainedModel,
    tmp_path: Path,
    damage: Callable[[PackagedBento, Path], None],
    removed: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, copied = bento.folder.parents[2], Paths(tmp_path)
    shutil.copytree(whole, copied.bentoml)
    copy = dataclasses.replace(bento, folder=copied.bentoml / bento.folder.relative_to(whole))
    stored_model = copied.bentoml / "models" / bento.model_tag.replace(":", "/")
    damage(copy, stored_model)
    monkeypatch.setattr(  # what the one real build here made stands for a second one
        packaging, "_run_build", lambda request, file, home: shutil.copytree(whole, home, dirs_exist_ok=True)
    )
    folders = {"bentos": copy.folder, "models": stored_model}
    kept = "models" if removed == "bentos" else "bentos"
    (folders[kept] / "untouched").touch()
    (folders[removed] / "gone").touch()
    again = package_model(trained_model, None, copied)
    assert again.folder == copy.folder
    assert (folders[kept] / "untouched").is_file()
    assert not (folders[removed] / "gone").exists()
    (folders[kept] / "untouched").unlink()
    assert below(copied.bentoml) == below(whole)


def test_every_route_is_there_beside_bentomls_own(address: str, trained_model: TrainedModel) -> None:
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        model = client.get("/model").json()
        assert (model["model_id"], model["identities"]["dataset"]) == (trained_model.id, trained_model.dataset_id)
        batch = client.post("/classify_batch", files=[("images", jpeg()), ("images", b"no image")]).json()
        assert [set(result) == {"error"} for result in batch["results"]] == [False, True]
        for path in ("/healthz", "/livez", "/readyz", "/docs.json", "/openapi.json"):
            assert client.get(path).status_code == 200
        assert 'flywheel_requests_total{route="/readyz",status="200"}' in client.get("/metrics").text
        for method, path, status in [("GET", "/no/such/path", 404), ("GET", "/classify", 405)]:
            refused = client.request(method, path)
            assert (refused.status_code, set(refused.json()["error"])) == (status, {"code", "message", "hint"})


def test_the_limit_on_a_body_holds_in_the_served_bento_where_no_length_is_declared(address: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b"\0" * 50_000

    with httpx.Client(trust_env=False, timeout=30) as client, contextlib.suppress(httpx.WriteError):
        response = client.post(f"{address}/classify", content=endless(), headers={"content-type": "image/jpeg"})
        assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


def test_a_failed_build_says_why_and_leaves_nothing(trained_model: TrainedModel, tmp_path: Path) -> None:
    broken = dataclasses.replace(trained_model, folder=tmp_path / "models" / trained_model.id)
    with pytest.raises(ModelError, match=r"model\.json expected, none found"):
        package_model(broken, None, Paths(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_build_left_is_removed_by_the_next_one_when_it_is_old(tmp_path: Path) -> None:
    old, running = tmp_path / "building-old", tmp_path / "building-now"
    for folder in (old, running):
        (folder / "home").mkdir(parents=True)
    an_age_ago = time.time() - 2 * packaging.STALE_SECONDS
    packaging.os.utime(old, (an_age_ago, an_age_ago))
    packaging._remove_stale(tmp_path)
    assert list(tmp_path.iterdir()) == [running]


def test_a_service_that_does_not_start_ends_with_its_log(bento: PackagedBento, paths: Paths) -> None:
    with pytest.raises(ServingError, match=r"(?s)exit code .*not found"), served("nothing:here", paths.bentoml, 60, {}):
        pytest.fail("it started")


def test_a_service_that_is_not_ready_in_time_is_ended_with_all_its_processes(
    bento: PackagedBento, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(ServingError, match="not ready yet"), served(bento.tag, paths.bentoml, 1.0, ONE_WORKER):
        pytest.fail("it was ready in 1 s")
    assert set(psutil.Process().children(recursive=True)) <= before
    assert list(tmp_path.iterdir()) == []


def test_the_line_for_the_user_is_whole_and_safe_to_paste(paths: Paths) -> None:
    line = serve_command(paths, "classifier:1")
    assert line.startswith(f"BENTOML_HOME='{paths.bentoml}' BENTOML_DO_NOT_TRACK=True ")
    assert line.endswith("bentoml serve classifier:1")
