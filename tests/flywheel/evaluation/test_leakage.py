"""An evaluation image that a model learned from is found and named, whichever way it came in; all else fails closed."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flywheel.data.decode import decode, image_id
from flywheel.data.index import build_index
from flywheel.data.sources import fetch_source
from flywheel.data.versions import build_version
from flywheel.evaluation import leakage
from flywheel.evaluation.leakage import LeakCheck, LeakFindings, check_leaks
from flywheel.model.folder import write_manifest
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, Preprocessing, TrainedModel, from_json, to_json
from flywheel.settings import DataParameters, Settings

CHALLENGER, CHAMPION, OLDER = "model-aaaaaaaaaaaa", "model-bbbbbbbbbbbb", "model-cccccccccccc"
TESTED = 12  # images of a class in the test split


def picture(seed: int, side: int = 32) -> np.ndarray:
    """Structure at all scales, as photographs have it; every seed another one."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize((side, side)))
        for cells in (3, 6, 12)
    ]
    return np.asarray(sum(layer.astype(np.uint16) for layer in layers) // 3, dtype=np.uint8)


def file_of(pixels: np.ndarray, kind: str = "PNG", **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def brighter(pixels: np.ndarray) -> np.ndarray:
    return np.clip(pixels * 1.1, 0, 255).astype(np.uint8)


COPIES: dict[str, Callable[[np.ndarray], bytes]] = {
    "exact.png": file_of,
    "encoded.jpg": lambda pixels: file_of(pixels, "JPEG", quality=75),
    "bright.png": lambda pixels: file_of(brighter(pixels)),
    "resized.png": lambda pixels: file_of(np.asarray(Image.fromarray(pixels).resize((48, 48)))),
}


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def version_of(source: Path, home: Path) -> DatasetVersion:
    settings = Settings(home=home, database_url="")
    index = build_index(fetch_source(str(source), settings), settings.paths)
    return build_version(index, (), DataParameters(source=str(source), subset=None), settings.paths)


def model(paths: Paths, name: str, dataset: str, weights: str = "", began_with: tuple[str, str] = ("", "")) -> str:
    """A model's folder as training leaves its manifest; no test here needs its weights."""
    origin, sha256 = began_with
    folder = paths.model(name)
    folder.mkdir(parents=True)
    record = TrainedModel(
        id=name,
        folder=folder,
        dataset_id=dataset,
        task_id="task-1",
        architecture="airbench_small",
        classes=("cat", "dog"),
        preprocessing=Preprocessing(32, "bicubic", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
        parameters=1,
        seed=0,
        threads=1,
        device="cpu",
        epochs=1,
        best_epoch=1,
        top1_validation=0.5,
        weights_sha256=weights or name,
        train_seconds=1.0,
        images_per_second=1.0,
        initial_weights=origin,
    )
    initial = {"origin": origin, "sha256": sha256, "file": "weights.safetensors"} if sha256 else None
    write_manifest(folder, record, {}, {"initial_weights": initial})
    return name


@dataclass(frozen=True)
class Project:
    paths: Paths
    evaluation: DatasetVersion  # the challenger's
    spoilt: DatasetVersion  # of the same classes; its training side holds copies of four evaluation images

    def check(self, *models: str) -> LeakCheck:
        return check_leaks(self.evaluation, models, self.paths)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The spoilt version is made in a home of its own, as one that was made before the test images were known."""
    root = tmp_path_factory.mktemp("leaks")
    for place, label in enumerate(("cat", "dog")):
        for number in range(60):
            split = "test" if number < TESTED else "train"
            write(root / "source" / split / label / f"{number}.png", file_of(picture(1000 * place + number)))
            write(root / "old" / split / label / f"{number}.png", file_of(picture(1000 * place + number + 500)))
    for number, (name, copy) in enumerate(COPIES.items()):
        write(root / "old" / "train" / "cat" / name, copy(picture(number)))
    evaluation, spoilt = version_of(root / "source", root / "home"), version_of(root / "old", root / "other home")
    paths = Paths(root / "home")
    shutil.copytree(spoilt.folder, paths.dataset(spoilt.id))
    return Project(paths, evaluation, spoilt)


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """A copy to break."""
    home = tmp_path / "home"
    shutil.copytree(made.paths.home / "data" / "processed", home / "data" / "processed")
    paths = Paths(home)
    return Project(
        paths,
        replace(made.evaluation, folder=paths.dataset(made.evaluation.id)),
        replace(made.spoilt, folder=paths.dataset(made.spoilt.id)),
    )


def only(check: LeakCheck, name: str) -> LeakFindings:
    (findings,) = check.of(name)
    return findings


def test_a_version_keeps_its_own_sides_apart(project: Project) -> None:
    check = project.check(model(project.paths, CHALLENGER, project.evaluation.id))
    assert check.passed
    assert check.images == 2 * TESTED
    assert only(check, CHALLENGER).leaks.learned_images == 96
    assert check.summary == "None of 24 evaluation images is among 96 that were learned from."


def test_every_planted_copy_is_found_and_named(project: Project) -> None:
    model(project.paths, CHALLENGER, project.evaluation.id)
    model(project.paths, CHAMPION, project.spoilt.id)
    check = project.check(CHALLENGER, CHAMPION)
    assert not check.passed
    assert not check.problems
    assert only(check, CHALLENGER).leaks.found == 0
    leaks = only(check, CHAMPION).leaks
    assert (leaks.exact, leaks.near) == (1, 3)
    assert {pair.learned_path: pair.evaluation_path for pair in leaks.pairs} == {
        f"train/cat/{name}": f"test/cat/{number}.png" for number, name in enumerate(COPIES)
    }
    first = leaks.pairs[0]
    assert (first.learned_path, first.similarity) == ("train/cat/exact.png", 1.0)
    assert first.evaluation_image == first.learned_image == image_id(decode(file_of(picture(0))))
    assert all(0.95 <= pair.similarity < 1 for pair in leaks.pairs[1:])
    assert {pair.side for pair in leaks.pairs} <= {"train", "validation", "reference"}
    assert f"{CHAMPION} learned from 4 of 24 evaluation images (1 the same, 3 near duplicates): " in check.summary
    assert "test/cat/0.png is train/cat/exact.png, ds-" in check.summary
    assert from_json(LeakCheck, to_json(check)) == check


def test_two_models_that_learned_from_one_version_are_told_of_once(project: Project) -> None:
    for name in (CHALLENGER, CHAMPION):
        model(project.paths, name, project.spoilt.id)
    summary = project.check(CHALLENGER, CHAMPION).summary
    assert summary.startswith(f"{CHALLENGER} and {CHAMPION} learned from 4 of 24 evaluation images (")
    assert summary.count("test/cat/0.png is train/cat/exact.png") == 1


def test_what_an_ancestor_learned_counts(project: Project) -> None:
    """Three generations: the challenger began with a model that began with one that saw evaluation images."""
    model(project.paths, OLDER, project.spoilt.id, weights="1" * 64)
    model(project.paths, CHAMPION, project.evaluation.id, "2" * 64, ("weights.safetensors", "1" * 64))
    model(project.paths, CHALLENGER, project.evaluation.id, "3" * 64, ("weights.safetensors", "2" * 64))
    check = project.check(CHALLENGER)
    assert [(each.dataset_id, each.ancestor_id, each.leaks.found) for each in check.of(CHALLENGER)] == [
        (project.evaluation.id, "", 0),
        (project.evaluation.id, CHAMPION, 0),
        (project.spoilt.id, OLDER, 4),
    ]
    assert not check.passed
    assert f"4 of 24 evaluation images through {OLDER}" in check.summary


def test_weights_from_elsewhere_are_said_to_be_unknown_and_don_t_fail(project: Project) -> None:
    model(project.paths, CHALLENGER, project.evaluation.id, began_with=("timm/resnet18@abc", "f" * 64))
    check = project.check(CHALLENGER)
    assert check.passed
    assert check.summary.endswith(
        f"What timm/resnet18@abc, with which {CHALLENGER} began, learned from is not known here."
    )


def test_weights_that_may_be_those_of_an_unreadable_model_are_a_problem(project: Project) -> None:
    model(project.paths, CHALLENGER, project.evaluation.id, began_with=("weights.safetensors", "f" * 64))
    (project.paths.model(OLDER)).mkdir()
    check = project.check(CHALLENGER)
    assert not check.passed
    assert f"may be {OLDER}'s" in check.problems[0]
    assert only(check, CHALLENGER).leaks.learned_images == 96, "what can be looked through, is"


def remove_the_version(project: Project) -> None:
    shutil.rmtree(project.spoilt.folder)


def remove_its_manifest(project: Project) -> None:
    (project.spoilt.folder / "manifest.json").unlink()


def cut_its_manifest(project: Project) -> None:
    manifest = project.spoilt.folder / "manifest.json"
    document = json.loads(manifest.read_text())
    del document["files"]["rows.parquet"]
    manifest.write_text(json.dumps(document))


def take_another_versions_place(project: Project) -> None:
    shutil.rmtree(project.spoilt.folder)
    shutil.copytree(project.evaluation.folder, project.spoilt.folder)


def damage_its_rows(project: Project) -> None:
    rows = project.spoilt.folder / "rows.parquet"
    content = bytearray(rows.read_bytes())
    content[len(content) // 2] ^= 1
    rows.write_bytes(content)


def remove_the_model(project: Project) -> None:
    shutil.rmtree(project.paths.model(CHAMPION))


def spoil_the_models_manifest(project: Project) -> None:
    (project.paths.model(CHAMPION) / "model.json").write_text('{"model": 3, "files": {}}')


@pytest.mark.parametrize(
    "damage",
    [
        remove_the_version,
        remove_its_manifest,
        cut_its_manifest,
        take_another_versions_place,
        damage_its_rows,
        remove_the_model,
        spoil_the_models_manifest,
    ],
)
def test_what_is_missing_or_damaged_is_a_problem_and_no_pass(
    project: Project, damage: Callable[[Project], None]
) -> None:
    model(project.paths, CHALLENGER, project.evaluation.id)
    model(project.paths, CHAMPION, project.spoilt.id)
    project.check(CHALLENGER, CHAMPION)  # a note from before must not hide it
    damage(project)
    check = project.check(CHALLENGER, CHAMPION)
    assert not check.passed
    (problem,) = check.problems
    assert only(check, CHAMPION).problem == problem
    assert problem in check.summary
    assert only(check, CHALLENGER).leaks.learned_images == 96


def test_without_an_evaluation_set_or_a_model_nothing_passes(project: Project) -> None:
    model(project.paths, CHALLENGER, project.evaluation.id)
    assert not project.check().passed
    assert project.check().summary == "There was nothing to look through."
    (project.evaluation.folder / "manifest.json").unlink()
    check = project.check(CHALLENGER)
    assert not check.passed
    assert "Run 'make data'" in check.summary


def test_a_comparison_is_kept_until_something_changes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    model(project.paths, CHAMPION, project.spoilt.id)
    compared = []
    compare = leakage._compared
    monkeypatch.setattr(leakage, "_compared", lambda *sides: compared.append(1) or compare(*sides))
    first = project.check(CHAMPION)
    assert project.check(CHAMPION) == first
    assert len(compared) == 1
    (note,) = project.spoilt.folder.glob("leaks-*.json")
    note.write_text(note.read_text().replace('"exact":1', '"exact":0'))
    assert project.check(CHAMPION) == first
    note.write_text("{")
    assert project.check(CHAMPION) == first
    assert len(compared) == 3, "a note that was changed or cut counts as none"
    monkeypatch.setattr(leakage, "SIMILARITY", 0.96)
    project.check(CHAMPION)
    assert len(compared) == 4, "other thresholds are another question"


def test_of_many_leaks_the_first_twenty_are_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "MOST_PAIRS", 2)
    model(project.paths, CHAMPION, project.spoilt.id)
    leaks = only(project.check(CHAMPION), CHAMPION).leaks
    assert (leaks.found, len(leaks.pairs)) == (4, 2)
    assert leaks.pairs[0].similarity >= leaks.pairs[1].similarity
