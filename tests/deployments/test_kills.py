"""`kill -9` of a run's process and of the worker at once: told by silence, and resumed at its checkpoint."""

import os
import re
import signal
import time

import psutil
import pytest

from tests.deployments.conftest import Clone
from tests.deployments.test_up import STATES, wait_for

CACHED = ["index_images", "validate_index", "make_dataset", "validate_dataset"]
TASK_RUNS = (
    "from prefect.client.schemas import filters; from prefect.client.schemas.sorting import TaskRunSort; "
    "of_run = filters.FlowRunFilter(id={{'any_': ['{run_id}']}}); "
    "runs = client.read_task_runs(flow_run_filter=of_run, sort=TaskRunSort.EXPECTED_START_TIME_ASC); "
    "print(json.dumps([[run.task_key, run.state_name] for run in runs]))"
)
RUN = "the run's own process"
PARAMETERS = {"source": "digits", "epochs": 40}


def flow_process(run_id: str) -> int:
    for process in psutil.process_iter():
        try:
            found = process.environ().get("PREFECT__FLOW_RUN_ID", "")
            if found.replace("-", "") == run_id.replace("-", "") and "prefect.engine" in " ".join(process.cmdline()):
                return process.pid
        except psutil.Error:
            continue
    raise AssertionError(f"no process runs {run_id}")


@pytest.mark.slow
def test_a_run_whose_process_and_worker_are_killed_is_resumed(running: Clone) -> None:
    log = running.folder / ".flywheel" / "logs" / "worker.log"
    assert running.run(PARAMETERS).returncode == 0
    run_id = running.ask(STATES)[0][0]
    wait_for(lambda: log.is_file() and "epoch 5, epochs 40" in log.read_text(), 180)
    os.kill(running.pid("worker"), signal.SIGKILL)
    os.kill(flow_process(run_id), signal.SIGKILL)
    wait_for(lambda: running.ask(STATES)[0][1] == "Completed", 400, every=3)
    assert running.ask(STATES)[0][3] == 2, "the second try completed"
    names = "print(json.dumps([state.name for state in client.read_flow_run_states('" + run_id + "')]))"
    history = running.ask(names)
    assert history[history.index("Crashed") :][:2] == ["Crashed", "AwaitingRetry"]
    runs = running.ask(TASK_RUNS.format(run_id=run_id))
    assert [key.rpartition("-")[0] for key, state in runs if state == "Cached"] == CACHED, "found, not made again"
    epochs = [int(number) for number in re.findall(r"epoch (\d+), epochs 40, step", log.read_text())]
    assert "resumed" in log.read_text()
    assert sorted(set(epochs)) == list(range(1, 41))
    assert len(epochs) <= 41, "only the epoch that was cut off is trained again"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killed", "seconds_until_up"),
    [
        (("worker",), 5),
        (("server", "worker"), 0),
        (("keeper", "server", "worker", RUN), 0),
    ],
    ids=["worker", "server", "power cut"],
)
def test_a_run_is_resumed_though_make_up_follows_the_kill(
    running: Clone, killed: tuple[str, ...], seconds_until_up: int
) -> None:
    """What the rules waited for may be lost then; the keeper looks at the runs themselves.

    Where only others are killed, the run's own process mostly ends by itself and may still tell of it; or it goes on
    to the end.
    """
    epochs = 60 + len(killed)
    log = running.folder / ".flywheel" / "logs" / "worker.log"
    assert running.run({"source": "digits", "epochs": epochs, "smallest_power": 0}).returncode == 0
    run_id = running.ask("print(json.dumps(str(max(client.read_flow_runs(), key=lambda each: each.created).id)))")
    wait_for(lambda: f"epoch 5, epochs {epochs}" in log.read_text(), 180)
    pids = [flow_process(run_id) if name == RUN else running.pid(name) for name in killed]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    time.sleep(seconds_until_up)
    up = running.module("up")
    assert up.returncode == 0, up.stdout + up.stderr
    state = f"run = client.read_flow_run('{run_id}'); print(json.dumps([run.state_name, run.run_count]))"
    wait_for(lambda: running.ask(state)[0] == "Completed", 400, every=3)
    tries = running.ask(state)[1]
    assert tries == 2 or RUN not in killed, "the second try completed"
    names = f"print(json.dumps([each.name for each in client.read_flow_run_states('{run_id}')]))"
    assert running.ask(names).count("AwaitingRetry") == tries - 1
    trained = [int(number) for number in re.findall(rf"epoch (\d+), epochs {epochs}, step", log.read_text())]
    assert len(trained) <= epochs + 1, "only the epoch that was cut off is trained again"
    assert trained[-1] == epochs or tries == 1, "what it says after the worker's end is in no log"
