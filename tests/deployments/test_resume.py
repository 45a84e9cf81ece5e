"""Runs that no rule has taken up: found by how they stand on a real server, not by an event."""

import os
import random
import subprocess
import sys
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.events.schemas.automations import AutomationCore

from deployments import resume
from deployments.automations import _content, crashed_runs
from deployments.resume import Resumer, is_gone
from tests.deployments.conftest import Clone

NEVER = 2**22 + 1  # above the largest pid that Linux gives


def state_of(clone: Clone, run_id: str) -> tuple[str, str]:
    code = f"run = client.read_flow_run('{run_id}'); print(json.dumps([run.state_name, run.state.message or '']))"
    name, message = clone.ask(code)
    return name, message


def run_of(clone: Clone, state: str, **changed: Any) -> str:
    """A run of a deployment that is due in an hour, put into a state."""
    made = clone.run({"source": "digits", "epochs": 1}, "--start-in", "1 hour", "--flow-run-name", str(uuid4()))
    assert made.returncode == 0, made.stdout + made.stderr
    code = (
        "from prefect.states import Cancelling, Crashed, Running, Scheduled; "
        "run = max(client.read_flow_runs(), key=lambda each: each.created); "
        f"client.set_flow_run_state(run.id, {state if ')' in state else state + '()'}, force=True); "
        f"client.update_flow_run(run.id, **{changed!r}) if {changed!r} else None; "
        "print(json.dumps(str(run.id)))"
    )
    return str(clone.ask(code))


def cancel(clone: Clone, run_id: str) -> None:
    code = "from prefect.states import Cancelled; "
    clone.ask(f"{code}client.set_flow_run_state('{run_id}', Cancelled(), force=True); print(json.dumps(1))")


@pytest.fixture
def resumer(running: Clone) -> Resumer:
    return Resumer(f"http://127.0.0.1:{running.ports['FLYWHEEL_PREFECT_PORT']}/api", ["quickstart"])


def test_a_crashed_run_that_no_rule_took_up_is_scheduled_again(
    running: Clone, resumer: Resumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = run_of(running, "Crashed")
    try:
        resumer.look()
        assert state_of(running, run_id)[0] == "Crashed", "the rule's turn is first"
        Resumer(resumer._api, ["folder"]).look()
        monkeypatch.setattr(resume, "SETTLED", timedelta(0))
        Resumer(resumer._api, ["folder"]).look()
        assert state_of(running, run_id)[0] == "Crashed", "it is another deployment's"
        resumer.look()
        code = f"print(json.dumps([[each.name, each.message] for each in client.read_flow_run_states('{run_id}')]))"
        tried = dict(running.ask(code))["AwaitingRetry"]
        assert "tried again" in tried
    finally:
        cancel(running, run_id)


def test_a_run_whose_process_is_gone_is_marked_at_the_second_look(running: Clone, resumer: Resumer) -> None:
    run_id = run_of(running, "Running", infrastructure_pid=str(NEVER))
    try:
        resumer.look()
        assert state_of(running, run_id)[0] == "Running"
        resumer.look()
        name, message = state_of(running, run_id)
        assert name == "Crashed"
        assert "process is gone" in message
    finally:
        cancel(running, run_id)


def test_a_run_that_was_being_cancelled_is_not_tried_again(
    running: Clone, resumer: Resumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = run_of(running, "Cancelling", infrastructure_pid=str(NEVER))
    monkeypatch.setattr(resume, "SETTLED", timedelta(0))
    for _ in range(3):
        resumer.look()
    assert state_of(running, run_id)[0] == "Cancelled"


def test_a_crashed_run_is_left_alone_where_another_began_since(
    running: Clone, resumer: Resumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = run_of(running, "Crashed")
    in_an_hour = "Scheduled(scheduled_time=run.expected_start_time)"
    scheduled = run_of(running, in_an_hour)
    later = run_of(running, "Running")
    names = f"print(json.dumps([each.name for each in client.read_flow_run_states('{crashed}')]))"
    monkeypatch.setattr(resume, "SETTLED", timedelta(0))
    try:
        resumer.look()
        assert "AwaitingRetry" not in running.ask(names)
        cancel(running, later)
        resumer.look()
        assert "AwaitingRetry" in running.ask(names), "the other one came to nothing"
    finally:
        cancel(running, crashed)
        cancel(running, scheduled)


def test_a_process_is_known_by_its_run_not_by_its_pid_alone() -> None:
    run_id = str(uuid4())
    command = [sys.executable, "-c", "print(1, flush=True); input()"]
    environment = {**os.environ, "PREFECT__FLOW_RUN_ID": run_id}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()  # until then it may still be a copy of this process
        assert not is_gone({"id": run_id, "infrastructure_pid": str(process.pid)})
        assert is_gone({"id": str(uuid4()), "infrastructure_pid": str(process.pid)})
        process.communicate(b"\n")
    assert is_gone({"id": run_id, "infrastructure_pid": str(NEVER)})
    assert not is_gone({"id": run_id, "infrastructure_pid": None})


def test_a_rule_is_the_same_whatever_order_the_server_tells_its_states_in() -> None:
    """Two equal sets may be walked in two orders, and then a standing rule was written again."""
    rule = crashed_runs(["folder"])
    document = rule.model_dump(mode="json")
    for seed in range(200):  # two states must share a place in the set's table to be told in two orders
        random.Random(seed).shuffle(document["trigger"]["expect"])
        assert _content(AutomationCore.model_validate(document)) == _content(rule)


def test_a_second_up_leaves_the_rules_as_they_wait(running: Clone) -> None:
    """One that is written again has forgotten what it waited for."""

    def rules() -> dict[str, str]:
        url = f"http://127.0.0.1:{running.ports['FLYWHEEL_PREFECT_PORT']}/api/automations/filter"
        return {each["name"]: each["updated"] for each in httpx.post(url, json={}, trust_env=False).json()}

    before = rules()
    assert sorted(before) == ["flywheel-crashed-runs", "flywheel-retrain-on-drift", "flywheel-silent-runs"]
    assert running.module("up").returncode == 0
    assert rules() == before
