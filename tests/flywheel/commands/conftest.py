"""A home with real artifacts, and the commands as a user types them there."""

import pytest
from typer.testing import CliRunner

from flywheel.commands import app
from tests.flywheel.lineage.conftest import finished_home, home

__all__ = ["finished_home", "home"]


@pytest.fixture
def at_home(home, monkeypatch):
    """Runs a command in that home."""
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.folder))
    monkeypatch.setenv("FLYWHEEL_DATABASE_URL", "")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))
