from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flywheel.records import DatasetVersion
from flywheel.settings import Recipe
from tasks import tracking
from tasks.tracking import Tracker
from tasks.wandb_contents import most_confident_mistakes


@pytest.fixture
def version(tmp_path):
    return DatasetVersion("ds-1", tmp_path, "digits", "idx-1", ("a", "b"), {}, 8, "box", "evalset-1")


class Run:
    """W&B's run, as far as logging goes."""

    settings = SimpleNamespace(base_url="http://127.0.0.1:9")

    def __init__(self, folder):
        self.dir = str(folder / "wandb" / "offline-run-1" / "files")
        Path(self.dir).mkdir(parents=True)
        self.logged = []

    def log(self, values, step=None):
        self.logged.append((step, values))

    def log_artifact(self, artifact):
        pass

    def finish(self, exit_code=0):
        self.logged.append(("finished", exit_code))


def step(number, kind="step"):
    return {"event": kind, "step": number, "loss": 1.0, "learning_rate": 0.1, "images_per_second": 5.0}


def test_steps_are_logged_at_least_20_apart_and_epochs_always(tmp_path, version, monkeypatch):
    run = Run(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(tracking, "_begin", lambda *_: run)
    with Tracker.start("model-1", Recipe(), version, tmp_path, track=True) as tracker:
        for number in (1, 10, 20, 21, 30, 45):
            tracker.log(step(number))
        tracker.log(step(46, "epoch"))
        assert tracker.folder() == "wandb/offline-run-1"
    assert [number for number, _ in run.logged] == [1, 21, 45, 46, "finished"]


def test_wandb_that_fails_is_a_warning_and_training_goes_on(tmp_path, version, monkeypatch, caplog):
    def refuse(*_):
        raise RuntimeError("no account")

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(tracking, "_begin", refuse)
    with Tracker.start("model-1", Recipe(), version, tmp_path, track=True) as tracker:
        tracker.log(step(1))
        assert tracker.folder() == ""
    assert "no account" in caplog.text


def test_disabled_means_no_thread_and_no_run(tmp_path, version, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(tracking, "_begin", lambda *_: pytest.fail("W&B was started"))
    with Tracker.start("model-1", Recipe(), version, tmp_path, track=True) as tracker:
        tracker.log(step(1))
        assert tracker.folder() == ""


def test_the_surest_mistakes_come_first():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.05, 0.95]], np.float32)
    assert most_confident_mistakes(probabilities, np.array([1, 1, 0, 0]), 2).tolist() == [3, 0]
