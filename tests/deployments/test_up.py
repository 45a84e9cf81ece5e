"""`make up` on a real server: what it refuses, what it keeps running, and what `make down` leaves: nothing."""

import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tasks.addresses import write_prefect_toml
from tests.deployments.conftest import Clone
from tests.deployments.test_prefect_yaml import deployed

LONG = {"source": "digits", "epochs": 300}
STATES = (
    "print(json.dumps([[str(run.id), run.state_name, run.state.message, run.run_count] "
    "for run in client.read_flow_runs()]))"
)


def wait_for(what: Callable[[], object], seconds: float, every: float = 0.5) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(every)


def logged(clone: Clone, run_id: str) -> list[tuple[int, str]]:
    """Levels and lines of the run's log, as Prefect's UI shows them."""
    of_run = "from prefect.client.schemas.filters import LogFilter; of_run = LogFilter(flow_run_id={'any_': ['%s']}); "
    read = "print(json.dumps([[line.level, line.message] for line in client.read_logs(of_run)]))"
    return [(level, line) for level, line in clone.ask(of_run % run_id + read)]


def test_a_taken_port_is_said_and_nothing_is_left(clone: Clone) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int(clone.ports["FLYWHEEL_PREFECT_PORT"])))
        taken.listen()
        up = clone.module("up")
    assert up.returncode == 1
    assert "FLYWHEEL_PREFECT_PORT=" in up.stdout
    assert "Traceback" not in up.stdout + up.stderr
    assert clone.left() == []
    assert not (clone.folder / "prefect.toml").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": 0}, ["field 'epochs'", "0 is not one of", "a whole number from 1 to 1000"]),
        ({"epochz": 3}, ["not found on the deployment: 'epochz'", "epochs"]),
        (
            {"model": "airbench_smal"},
            ["field 'model'", "'airbench_smal' is not one of", "airbench_small, airbench,", "make run MODEL=..."],
        ),
        ({"source": ""}, ["field 'source'", "auto, cifar10, digits, or the path of a folder or archive"]),
        ({"weights": "/etc/passwd"}, ["field 'weights'", "the path of a .safetensors file, or nothing"]),
    ],
)
def test_a_bad_parameter_is_refused_before_the_run_with_its_range(
    given: dict[str, Any], said: list[str], running: Clone
) -> None:
    done = running.run(given)
    assert done.returncode != 0
    text = " ".join((done.stdout + done.stderr).split())
    assert [word for word in said if word not in text] == []
    assert running.ask("print(json.dumps(len(client.read_flow_runs())))") == 0


def test_what_is_given_overrides_and_the_rest_of_the_preset_stays(running: Clone) -> None:
    made = running(
        ".venv/bin/prefect", "deployment", "run", "train-classifier/finetune", "-p", "epochs=2", "--start-in", "9h"
    )
    assert made.returncode == 0, made.stdout + made.stderr
    (parameters,) = running.ask("print(json.dumps([run.parameters for run in client.read_flow_runs()]))")
    assert parameters == {**deployed("finetune"), "epochs": 2}
    running.ask("[client.delete_flow_run(run.id) for run in client.read_flow_runs()]; print(0)")


def test_the_gpus_slot_is_held_and_given_back(running: Clone) -> None:
    code = (
        "from tasks.gpu_slot import gpu_slot\n"
        "    slots = lambda: client.read_global_concurrency_limit_by_name('gpu').active_slots\n"
        "    with gpu_slot('cpu'): found = [slots()]\n"
        "    with gpu_slot('cuda'): found.append(slots())\n"
        "    print(json.dumps([*found, slots()]))"
    )
    assert running.ask(code) == [0, 1, 0]


@pytest.mark.parametrize(
    ("given", "named", "said"),
    [
        (
            {"source": "/a/long/way/to/nowhere", "model": "resnet18.a1_in1k"},
            "train resnet18.a1_in1k on nowhere",
            "SourceError: /a/long/way/to/nowhere: cifar10, digits, auto, or the path of a folder",
        ),
        (
            {"source": "digits", "head_epochs": 50},
            "train airbench_small on digits",
            "ParameterError: head_epochs=50: at most 5, the number of epochs, expected.",
        ),
    ],
)
def test_what_only_the_run_can_see_ends_it_before_any_data_is_fetched(
    given: dict[str, Any], named: str, said: str, running: Clone
) -> None:
    done = running.run(given, "--watch")
    assert done.returncode == 1
    runs = running.ask(
        "print(json.dumps([[r.name, r.state.message, len(client.read_task_runs())] for r in client.read_flow_runs()]))"
    )
    ((name, message, stages),) = runs
    assert name == named
    assert said in message
    assert stages == 0
    assert message in running.module("status").stdout
    running.ask("[client.delete_flow_run(run.id) for run in client.read_flow_runs()]; print(0)")


def test_who_goes_on_is_who_was_due_first_whichever_begins_first(running: Clone) -> None:
    """Each run asks as its own process would; the worker's pool is paused, so that no process begins."""
    code = (
        "import os\n"
        "    from datetime import UTC, datetime, timedelta\n"
        "    from prefect.client.schemas.actions import WorkPoolUpdate\n"
        "    from prefect.states import Crashed, Pending, Running, Scheduled\n"
        "    from tasks.alone import run_that_goes_first\n"
        "    of = client.read_deployment_by_name('train-classifier/quickstart').id\n"
        "    client.update_work_pool('flywheel', WorkPoolUpdate(is_paused=True))\n"
        "    due = lambda seconds: Scheduled(scheduled_time=datetime.now(UTC) - timedelta(seconds=seconds))\n"
        "    new = lambda seconds: client.create_flow_run_from_deployment(of, state=due(seconds))\n"
        "    go = lambda run, *states: [client.set_flow_run_state(run.id, state, force=True) for state in states]\n"
        "    first, second = new(10), new(20)\n"  # by the clocks of their clients; none is due before it is there
        "    def before(run):\n"
        "        os.environ['PREFECT__RUNTIME__DEPLOYMENT__ID'] = str(of)\n"
        "        os.environ['PREFECT__RUNTIME__FLOW_RUN__ID'] = str(run.id)\n"
        "        found = run_that_goes_first()\n"
        "        return found and {first.id: 'first', second.id: 'second'}[found.id]\n"
        "    told = [[before(first), before(second)]]\n"
        "    go(second, Pending(), Running()), told.append([before(first), before(second)])\n"
        "    go(first, Pending(), Running()), told.append([before(first), before(second)])\n"
        "    go(first, Crashed()), told.append([before(second)])\n"
        "    go(first, due(0), Pending(), Running()), told.append([before(first), before(second)])\n"
        "    [client.delete_flow_run(run.id) for run in (first, second)]\n"
        "    client.update_work_pool('flywheel', WorkPoolUpdate(is_paused=False))\n"
        "    print(json.dumps(told))"
    )
    both_wait, second_runs, both_run, first_crashed, tried_again = running.ask(code)
    assert both_wait == second_runs == both_run == [None, "first"]
    assert first_crashed == [None]
    assert tried_again == ["second", None], "it began while the first lay crashed"


def test_a_second_run_beside_the_first_is_cancelled_with_its_reason(running: Clone) -> None:
    """Both wait when the worker looks, as it starts them at once then, in any order."""
    given = json.dumps([{"name": name, "parameters": LONG} for name in ("first", "second")])
    first, other = running.ask(
        "found = client.read_deployment_by_name('train-classifier/quickstart').id; "
        f"print(json.dumps([str(client.create_flow_run_from_deployment(found, **each).id) for each in {given}]))"
    )
    wait_for(lambda: [run[1] for run in running.ask(STATES)].count("Cancelled") == 1, 120)
    states = {run[0]: run[1:3] for run in running.ask(STATES)}
    assert states[first][0] in {"Pending", "Running"}
    state, reason = states[other]
    assert state == "Cancelled"
    assert f"({first}) of the same deployment goes on" in reason
    assert reason in running.module("status").stdout
    wait_for(lambda: "Finished in state Cancelled" in str(logged(running, other)), 30)
    above_info = [line for level, line in logged(running, other) if level > logging.INFO]
    assert above_info == [f"Cancelled: {reason}"], "no error and no traceback"


def test_who_watches_a_run_that_is_cancelled_is_told_why(running: Clone) -> None:
    """While the first of the test before goes on."""
    watched = running.run(LONG, "--watch")
    assert watched.returncode == 1
    assert "of the same deployment goes on. Start this one again" in " ".join(watched.stdout.split())


def test_a_killed_worker_is_started_again(running: Clone) -> None:
    killed = running.pid("worker")
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: running.pid("worker") != killed, 30)
    assert "runs already" in running.module("up").stdout


def test_a_shell_without_the_ports_settings_finds_what_runs(running: Clone) -> None:
    bare = replace(running, ports={})
    up = bare.module("up")
    assert up.returncode == 0, up.stdout
    assert up.stdout.count("runs already") == 4
    assert "started" not in up.stdout
    status = bare.module("status")
    assert status.returncode == 0, status.stdout
    for said in (*running.ports.values(), "train-classifier/quickstart", ".flywheel/logs/worker.log"):
        assert said in status.stdout
    asked = replace(running, ports={"FLYWHEEL_REPORTS_PORT": "1"}).module("up")
    assert asked.returncode == 1
    assert "FLYWHEEL_REPORTS_PORT asks for 1" in " ".join(asked.stdout.split())


def test_down_leaves_nothing_whatever_the_shell_has_set(running: Clone) -> None:
    down = replace(running, ports={}).module("down")
    assert down.returncode == 0, down.stderr
    assert "database is locked" not in (running.folder / ".flywheel" / "logs" / "server.log").read_text()
    assert running.left() == []
    assert not (running.folder / "prefect.toml").exists()
    assert running.module("down").stdout.strip() == "Nothing runs."


@pytest.mark.slow
def test_a_stale_prefect_toml_is_said_and_removed(clone: Clone) -> None:
    """As after a power cut; last in this file, since it needs the server to be gone."""
    url = f"http://127.0.0.1:{clone.ports['FLYWHEEL_PREFECT_PORT']}/api"
    assert write_prefect_toml(clone.folder, url, str(clone.folder / ".flywheel" / "prefect"))
    done = clone(".venv/bin/python", "-m", "flows.run", "--until", "data", "--source", "digits")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "prefect.toml leads to" in done.stdout
    assert not (clone.folder / "prefect.toml").exists()
