"""What the server's rules can miss, looked at in the runs themselves: a run whose process is gone, and a crashed run.

The rules of `automations.py` act on events. An event is lost with a server that is killed while it holds it, and a rule
that waits forgets that it does when the server starts again. So the keeper asks now and then how the runs stand. By
HTTP, as Prefect's own client would take 100 MB for it.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psutil

from tasks.retries import MOST_TRIES

log = logging.getLogger("keeper")

SETTLED = timedelta(seconds=60)  # after which the rule would have tried a crashed run again, and did not
LONGEST_AGO = timedelta(days=1)  # nobody waits any more for a run that crashed before
ASK_SECONDS = 10.0
UNDER_WAY = ("RUNNING", "PENDING", "CANCELLING")
Run = dict[str, Any]


class Resumer:
    """Remembers what it saw and did; one a keeper."""

    def __init__(self, api: str, deployments: Sequence[str]) -> None:
        self._api = api
        self._deployments = list(deployments)
        self._gone: set[str] = set()  # runs whose process was not there the last time
        self._tried: Counter[str] = Counter()

    def look(self) -> None:
        """Marks and schedules what needs it. Raises httpx.HTTPError where the server can't be asked."""
        with httpx.Client(base_url=self._api, timeout=ASK_SECONDS, trust_env=False) as server:
            self._mark_the_gone(server)
            self._schedule_the_crashed(server)

    def _mark_the_gone(self, server: httpx.Client) -> None:
        """Those that were gone the last time too: a worker that lives tells of a crash itself, and better."""
        gone = {run["id"]: run for run in self._runs(server, UNDER_WAY) if is_gone(run)}
        for identity in self._gone & gone.keys():
            message = "Its process is gone, and nobody told: the machine or the worker went down."
            # one that was being cancelled must not be tried again
            name = "Cancelled" if gone[identity]["state"]["type"] == "CANCELLING" else "Crashed"
            self._set(server, gone[identity], {"type": name.upper(), "name": name, "message": message})
        self._gone = set(gone)

    def _schedule_the_crashed(self, server: httpx.Client) -> None:
        now = datetime.now(UTC)
        for run in self._runs(server, ("CRASHED",)):
            ago = now - datetime.fromisoformat(run["state"]["timestamp"])
            tries = max(int(run["run_count"]), self._tried[run["id"]])
            if SETTLED < ago < LONGEST_AGO and tries <= MOST_TRIES and not _another_began(server, run):
                self._tried[run["id"]] += 1
                message = "Crashed, and tried again; finished stages and the last checkpoint are on disk."
                details = {"scheduled_time": now.isoformat()}
                state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": message, "state_details": details}
                self._set(server, run, state)

    def _runs(self, server: httpx.Client, states: Sequence[str]) -> list[Run]:
        """Of our deployments, in these states: those that a person started by `make run` have no worker."""
        wanted = {
            "flow_runs": {"state": {"type": {"any_": list(states)}}},
            "deployments": {"name": {"any_": self._deployments}},
        }
        answer = server.post("/flow_runs/filter", json=wanted)
        answer.raise_for_status()
        return list(answer.json())

    def _set(self, server: httpx.Client, run: Run, state: dict[str, Any]) -> None:
        answer = server.post(f"/flow_runs/{run['id']}/set_state", json={"state": state, "force": True})
        answer.raise_for_status()
        log.warning("run %s (%s) was %s: %s", run["name"], run["id"], run["state"]["name"], state["name"])


def _another_began(server: httpx.Client, run: Run) -> bool:
    """Whether a run of the same deployment began since, but for those that at once ended as cancelled.

    What is only scheduled is asked for by the time when it will start.
    """
    wanted = {
        "deployment_id": {"any_": [run["deployment_id"]]},
        "start_time": {"after_": run["state"]["timestamp"]},
        "state": {"type": {"not_any_": ["CANCELLED", "SCHEDULED"]}},
    }
    answer = server.post("/flow_runs/filter", json={"flow_runs": wanted})
    answer.raise_for_status()
    return any(other["id"] != run["id"] for other in answer.json())


def is_gone(run: Run) -> bool:
    """Whether the process that ran it, on this machine, is no more; a pid may have been given to another since."""
    noted = str(run.get("infrastructure_pid") or "").rpartition(":")[2]
    if not noted.isdecimal():
        return False  # it has none yet
    try:
        environment = psutil.Process(int(noted)).environ()
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
    return environment.get("PREFECT__FLOW_RUN_ID", "").replace("-", "") != str(run["id"]).replace("-", "")
