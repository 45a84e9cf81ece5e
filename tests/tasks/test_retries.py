"""A host out of reach is asked again where nobody waits; a lasting fault ends."""

import pytest
from prefect.states import Failed

from flywheel.data.sources import SourceError
from tasks.retries import MOST_TRIES, GivenUp, stop_after_crashes, worth_another_try

UNREACHABLE = SourceError("CIFAR-10: https://host could not be downloaded (timed out).")
DEPLOYMENT = "PREFECT__RUNTIME__DEPLOYMENT__ID"
COUNT = "PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT"


def test_only_a_host_out_of_reach_is_worth_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEPLOYMENT, "11111111-1111-1111-1111-111111111111")
    assert worth_another_try(None, None, Failed(data=UNREACHABLE))
    assert not worth_another_try(None, None, Failed(data=SourceError("pets: a folder expected, nothing there.")))
    assert not worth_another_try(None, None, Failed(data=OSError("could not be downloaded")))


def test_a_person_at_a_terminal_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEPLOYMENT, raising=False)
    assert not worth_another_try(None, None, Failed(data=UNREACHABLE))


def test_a_run_that_crashes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COUNT, str(MOST_TRIES))
    stop_after_crashes()
    monkeypatch.setenv(COUNT, str(MOST_TRIES + 1))
    with pytest.raises(GivenUp, match=f"crashed {MOST_TRIES} times"):
        stop_after_crashes()
