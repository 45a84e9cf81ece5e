"""The training process for real: run whole, killed and resumed, left by its parent, crashed, and asked for twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest

from flywheel.model.folder import CHECKPOINTS, TrainingError, model_id, partial_folder, verify
from flywheel.model.inference import load_model
from flywheel.model.initial_weights import find_initial_weights
from flywheel.model.reference import read_reference
from flywheel.paths import Paths
from flywheel.records import Side, to_json
from flywheel.settings import PROJECT, Recipe
from tasks.fit import FitRequest
from tasks.fit_process import environment_for, only_one, run_fit
from tasks.training import choose_device, train

RECIPE = Recipe(epochs=8, batch_size=16, flip=False, shift=1)


def no_event(event: dict) -> None:
    pass


@pytest.fixture(scope="module")
def whole(version, tmp_path_factory):
    """An uninterrupted run, tracked by W&B, and its events."""
    events: list[dict] = []
    keeper = pytest.MonkeyPatch()
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR"):
        keeper.delenv(name, raising=False)
    model = train(version, RECIPE, "cpu", Paths(tmp_path_factory.mktemp("whole")), events.append)
    keeper.undo()
    return model, events


@pytest.fixture
def paths(tmp_path) -> Paths:
    return Paths(tmp_path)


def test_the_folder_holds_a_model_that_answers_and_its_reference(whole, version):
    model, events = whole
    assert verify(model.folder) == model
    assert model.id == model_id(version, RECIPE, "cpu")
    assert model.top1_validation > 0.8
    reference = read_reference(model.folder)
    assert len(reference.labels) == version.counts[Side.REFERENCE] > 0
    assert reference.logits.shape == (len(reference.ids), 2)
    assert reference.statistics.shape == (len(reference.ids), len(reference.statistic_names))
    assert load_model(model.folder).classify([np.zeros((20, 30, 3), np.uint8)]).logits.shape == (1, 2)
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == list(range(1, 9))
    assert not (model.folder / CHECKPOINTS).exists()
    assert not partial_folder(model.folder).exists()


def test_wandb_keeps_its_run_offline_in_the_projects_folder(whole):
    model, _ = whole
    home = model.folder.parent.parent
    run = home / model.wandb_run
    assert model.wandb_run.startswith(".flywheel/wandb/offline-run-")
    record = next(run.glob("run-*.wandb")).read_bytes()
    for logged in (b"learning_rate", b"top1_validation", b"images_per_second", b"confusion_matrix", model.id.encode()):
        assert logged in record
    assert list(run.glob("files/media/table/most_confident_mistakes*"))
    assert "WARNING tasks.tracking" not in (model.folder / "fit.log").read_text()


def test_a_model_that_exists_is_not_trained_again(whole, version):
    model, _ = whole
    events: list[dict] = []
    began = time.perf_counter()
    again = train(version, RECIPE, "cpu", Paths(model.folder.parent.parent), events.append)
    assert (again, events) == (model, [])
    assert time.perf_counter() - began < 2


def test_killed_and_run_again_it_resumes_to_the_same_weights(whole, version, paths):
    def kill_after_the_third_epoch(event: dict) -> None:
        if event["event"] == "epoch" and event["epoch"] == 3:
            (child,) = [each for each in psutil.Process().children() if "tasks.fit" in each.cmdline()]
            os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(TrainingError, match=r"signal 9 \(SIGKILL\).*memory"):
        train(version, RECIPE, "cpu", paths, kill_after_the_third_epoch, track=False)
    events: list[dict] = []
    model = train(version, RECIPE, "cpu", paths, events.append, track=False)
    assert events[0]["event"] == "resumed"
    assert events[0]["epoch"] >= 3
    assert model.weights_sha256 == whole[0].weights_sha256


def test_an_error_of_the_listener_ends_the_child(version, paths):
    children: list[psutil.Process] = []

    def interrupt(event: dict) -> None:
        children.extend(each for each in psutil.Process().children() if "tasks.fit" in each.cmdline())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(version, RECIPE, "cpu", paths, interrupt, track=False)
    assert children
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_the_child_ends_when_its_parent_is_gone(version, tmp_path):
    endless = RECIPE.model_copy(update={"epochs": 1000})
    request = FitRequest("model-1", version, endless, "cpu", tmp_path / "partial", tmp_path, track=False)
    (tmp_path / "request.json").write_text(to_json(request))
    command = [sys.executable, "-m", "tasks.fit", str(tmp_path / "request.json"), "--end-with-stdin"]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert json.loads(child.stdout.readline())["event"] in {"data", "step", "epoch"}
        assert child.stdin
        child.stdin.close()
        assert child.wait(timeout=10) == 1


def test_the_childs_reason_and_hint_reach_the_parent(version, paths):
    with pytest.raises(TrainingError, match=r"airbench_smal.*Did you mean airbench_small"):
        train(version, RECIPE.model_copy(update={"model": "airbench_smal"}), "cpu", paths, no_event, track=False)
    assert not [path for path in paths.models.iterdir() if not path.name.startswith(".")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a net for other classes, as a file."""
    from flywheel.model.architecture import create
    from flywheel.model.checkpoint import save_weights

    file = tmp_path_factory.mktemp("given") / "given.safetensors"
    save_weights(create("test_resnet", 7, 32).state_dict(), file)
    return file


def test_a_model_that_begins_with_a_file_is_named_by_what_is_in_it(version, paths, weights, tmp_path):
    recipe = RECIPE.model_copy(
        update={"model": "test_resnet", "weights": str(weights), "epochs": 2, "head_epochs": 1, "optimizer": "adamw"}
    )
    model = train(version, recipe, "cpu", paths, no_event, track=False)
    assert model.initial_weights == "given.safetensors"
    assert model.preprocessing.mean == (0.5, 0.5, 0.5)  # timm's for the net, not measured
    assert (model.preprocessing.size, model.preprocessing.filter) == (version.size, version.filter)
    document = (model.folder / "model.json").read_text()
    assert str(tmp_path) not in document
    assert str(weights.parent) not in document
    assert load_model(model.folder).classify([np.zeros((20, 30, 3), np.uint8)]).logits.shape == (1, 2)

    moved = tmp_path / "renamed.safetensors"
    moved.write_bytes(weights.read_bytes())
    events: list[dict] = []
    elsewhere = recipe.model_copy(update={"weights": str(moved)})
    assert train(version, elsewhere, "cpu", paths, events.append, track=False) == model
    assert events == []
    scratch = recipe.model_copy(update={"weights": ""})
    assert model.id != model_id(version, scratch, "cpu")


def test_weights_that_change_before_they_are_used_are_refused(version, paths, weights, tmp_path):
    moved = tmp_path / "changed.safetensors"
    moved.write_bytes(weights.read_bytes())
    recipe = RECIPE.model_copy(update={"model": "test_resnet", "weights": str(moved)})
    initial = find_initial_weights(recipe)
    moved.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(TrainingError, match=r"changed\.safetensors: SHA-256 .* expected"):
        train(version, recipe, "cpu", paths, no_event, initial=initial, track=False)


def test_a_native_crash_is_an_error_with_its_signal(tmp_path, monkeypatch):
    crash = f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})"
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: real([sys.executable, "-c", crash], **how))
    with only_one(tmp_path / "lock") as lock, pytest.raises(TrainingError, match=r"signal 11 \(SIGSEGV\).*Native code"):
        run_fit(tmp_path / "request.json", 1, "model-1", lock, no_event)


def test_who_comes_second_waits_for_the_first(tmp_path):
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with only_one(tmp_path / "lock", waiting.set):
            order.append("second")

    with only_one(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(5)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_a_lock_outlives_a_parent_as_long_as_its_child_runs(tmp_path):
    with only_one(tmp_path / "lock") as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    waited = threading.Event()

    def end_child() -> None:
        waited.set()
        child.communicate(b"\n")

    with only_one(tmp_path / "lock", end_child):
        assert waited.is_set()


def test_a_device_that_isnt_there_is_named():
    assert choose_device("cpu") == "cpu"
    absent = "cuda" if sys.platform == "darwin" else "mps"
    with pytest.raises(TrainingError, match=f"device '{absent}': one of .*cpu expected .* Try DEVICE=auto"):
        choose_device(absent)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_training_keeps_the_memory_that_it_frees(monkeypatch):
    """Tensors of one step lie where those of the last one lay, unless a user has set the allocator."""
    step = (
        "import resource, torch\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def step(): [torch.ones(2_000_000) for _ in range(4)]\n"
        "for _ in range(8): step()\n"  # until the heap is as large as it gets
        "before = faults(); step(); step(); print(faults() - before)"
    )
    kept = subprocess.run([sys.executable, "-c", step], env=environment_for(1), capture_output=True, check=True)
    assert int(kept.stdout) < 500
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "4096")
    assert environment_for(1)["MALLOC_TRIM_THRESHOLD_"] == "4096"
