"""What can't be is refused before anything is started: by `make run`, and as the first thing of the flow."""

import io
import socket
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants
from rich.console import Console

from flows.run import _demand_possible
from flows.training import train_classifier
from flywheel.data.sources import SourceError
from flywheel.model import hub
from flywheel.model.folder import ModelError, TrainingError
from flywheel.settings import TrainingParameters

ABSENT = "cuda" if sys.platform == "darwin" else "mps"


def demand(until: str = "train", device: str = "auto", source: str = "auto", **recipe: object) -> str:
    said = io.StringIO()
    given = {"recipe": recipe, "device": device, "data": {"source": source}}
    parameters = TrainingParameters.model_validate(given)
    _demand_possible(parameters, until, Console(file=said))
    return said.getvalue()


def test_the_quickstart_is_possible_and_nothing_is_said() -> None:
    assert demand() == ""


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"pretrained": True}, "airbench_small.*timm names none.*WEIGHTS=file"),
        ({"model": "resnet18", "weights": "/nowhere.safetensors"}, "nowhere.*none found.*WEIGHTS="),
        ({"model": "resnet81"}, "Did you mean"),
        ({"model": "resnet81", "pretrained": True}, "Did you mean"),
    ],
    ids=str,
)
def test_a_network_that_cannot_be_is_refused_with_the_next_step(recipe: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        demand(**recipe)


def test_a_device_that_is_not_there_is_refused_but_where_only_data_is_made() -> None:
    with pytest.raises(TrainingError, match="Try DEVICE=auto"):
        demand(device=ABSENT)
    assert demand("data", device=ABSENT) == ""


@pytest.mark.parametrize("until", ["data", "train", "release"])
def test_a_network_or_a_source_that_is_not_there_is_refused_wherever_the_run_stops(until: str) -> None:
    with pytest.raises(ModelError, match="Did you mean"):
        demand(until, model="resnet81")
    with pytest.raises(SourceError, match=r"/nowhere.*found nothing there"):
        demand(until, source="/nowhere")


def test_a_hub_that_is_silent_is_given_up_within_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(hub, "USERS_CACHE", tmp_path)
        monkeypatch.setattr(hub, "SECONDS_TO_ANSWER", 1.0)
        began = time.monotonic()
        with pytest.raises(ModelError, match=r"gave none.*WEIGHTS="):
            demand(model="resnet18", pretrained=True)
    assert time.monotonic() - began < 10


def test_the_flow_refuses_a_device_first_of_all() -> None:
    with pytest.raises(TrainingError, match="Try DEVICE=auto"):
        train_classifier.fn(device=ABSENT, source="/nowhere")
