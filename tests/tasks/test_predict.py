"""`make predict` as a user runs it: the champion of a real ledger, over real files, good and bad."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flywheel.data.decode import decode
from flywheel.identity import name_of
from flywheel.ledger import open_ledger
from flywheel.model.inference import load_model, softmax
from flywheel.paths import Paths
from flywheel.records import GateVerdict, RuleResult, TrainedModel, Verdict
from flywheel.settings import Settings
from tasks import predict
from tasks.predict import main


@pytest.fixture(scope="module")
def photos(home: Path) -> Path:
    """Seven images in folders, and what else lies in people's folders."""
    folder = home / "my photos"
    (folder / "deeper" / "still").mkdir(parents=True)
    pixels = np.random.default_rng(5).integers(0, 256, (7, 24, 36, 3), dtype=np.uint8)
    names = ["b.png", "a.jpg", "deeper/c.webp", "deeper/still/d.gif", "deeper/e.JPG", "ümlaut, comma.png", "g"]
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(folder / name, "PNG" if "." not in name else None)
    (folder / "notes.txt").write_text("no image")
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])
    (folder / ".DS_Store").write_bytes(b"\0")
    return folder


@pytest.fixture(scope="module")
def champion(home: Path, trained_model: TrainedModel) -> TrainedModel:
    """The trained model, promoted in the home's own ledger."""
    ledger = open_ledger(Settings(home=home))
    inputs = {"model_id": trained_model.id, "task_id": trained_model.task_id, "champion_id": None}
    rule = RuleResult("ECE", 0.1, 0.15, Verdict.PASS, "ECE 0.100 is within 0.150.")
    gate = GateVerdict(
        id=name_of("dec", {"kind": "gate", "inputs": inputs, "policy": {}}),
        model_id=trained_model.id,
        task_id=trained_model.task_id,
        evaluation_id="eval-1",
        evaluation_set_id="evalset-1",
        champion_id=None,
        verdict=Verdict.PASS,
        rules=(rule,),
        reason="All 1 rules passed.",
    )
    ledger.record_gate(gate, inputs=inputs, policy={}, evidence={})
    assert ledger.promote(trained_model.task_id, trained_model.id, "classifier:1", gate.id, "passed").promoted
    return trained_model


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_HOME", str(home))


def expected(model: TrainedModel, file: Path) -> list[tuple[str, float]]:
    probabilities = softmax(load_model(model.folder).classify([decode(file.read_bytes())]).logits)[0]
    return sorted(zip(model.classes, probabilities.tolist(), strict=True), key=lambda pair: -pair[1])


def test_one_image_prints_the_champions_classes_best_first(
    champion: TrainedModel, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--image", str(photos / "deeper" / "c.webp")]) == 0
    printed = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert printed == [[f"{score:.4f}", label] for label, score in expected(champion, photos / "deeper" / "c.webp")]


def test_a_folder_becomes_a_csv_of_every_file_with_its_error_where_it_has_no_image(
    champion: TrainedModel,
    photos: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(predict, "BATCH_IMAGES", 2)
    assert main(["--images", str(photos)]) == 0
    target = Paths(home).model(champion.id) / "predictions" / "my photos.csv"
    assert capsys.readouterr().out == f"7 images predicted, 2 files unreadable: {target}\n"
    with target.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert {Path(row["path"]).name for row in rows if row["error"]} == {"notes.txt", "cut.jpg"}
    read = [row for row in rows if not row["error"]]
    assert len(read) == 7
    for row in read:
        top = expected(champion, Path(row["path"]))
        assert [row["label"], row["label_2"], row["label_3"]] == [label for label, _ in top]
        assert float(row["confidence"]) == pytest.approx(top[0][1], abs=1e-4)
        assert float(row["confidence_3"]) == pytest.approx(top[2][1], abs=1e-4)
    assert [path.name for path in target.parent.iterdir()] == ["my photos.csv"]


def test_a_model_can_be_named_instead_of_the_champion(
    trained_model: TrainedModel, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predict, "_champion", lambda *_: pytest.fail("the champion was asked for"))
    assert main(["--image", str(photos / "a.jpg"), "--model", trained_model.id]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--image", "{photos}/none.jpg"], "none.jpg: no such file or folder."),
        (["--image", "{photos}/notes.txt"], "notes.txt: it is in no image format that is known here."),
        (["--image", "{photos}"], "is a folder. Use IMAGES="),
        (["--images", "{photos}/a.jpg"], "is no folder. Use IMAGE="),
        (["--images", "{home}/empty"], "at least one image expected, no file found"),
        (["--image", "{photos}/a.jpg", "--model", "model-nothing"], "model-nothing: a model's folder"),
        (["--image", "{photos}/a.jpg", "--task", "task-nothing"], "No champion yet. Run 'make run' first"),
    ],
    ids=["missing", "no image", "folder", "file", "empty", "model", "task"],
)
def test_what_can_not_be_done_is_said_in_one_line(
    champion: TrainedModel,
    photos: Path,
    home: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (home / "empty").mkdir(exist_ok=True)
    assert main([argument.format(photos=photos, home=home) for argument in arguments]) == 1
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_without_any_run_it_says_so_quickly_and_writes_nothing(tmp_path: Path, photos: Path) -> None:
    environment = {"FLYWHEEL_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-X", "importtime", "-m", "tasks.predict", "--image", str(photos / "a.jpg")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "No champion yet. Run 'make run' first, or name a model with MODEL=model-…." in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.rstrip().endswith((" torch", " prefect", " pandas"))]
    assert list(tmp_path.iterdir()) == []
