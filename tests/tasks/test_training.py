"""The device is chosen without torch only where torch would say the same."""

import subprocess
import sys

import pytest

import tasks.training
from tasks.training import choose_device
from tests.conftest import ROOT


def test_no_driver_means_that_torch_sees_no_device() -> None:
    import torch

    assert not (tasks.training._has_no_driver() and torch.cuda.is_available())


@pytest.mark.skipif(not tasks.training._has_no_driver(), reason="there may be a GPU, so torch is asked")
def test_without_a_driver_torch_is_not_imported() -> None:
    code = "import sys; from tasks.training import choose_device; print(choose_device('auto'), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cpu", "False"]


def test_where_there_is_a_driver_torch_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(tasks.training, "_has_no_driver", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cuda"
