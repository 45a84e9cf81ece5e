"""Prefect's cached results, at a real server: a record is taken only where the disk says the same."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.conftest import ROOT, clean_environment

# The data stages but for the suites, which need Great Expectations: six runs in one process, on one server.
SCENARIO = """
import json, os, shutil, sys
from pathlib import Path

import psutil

import flows
from flows.server import RunServer
from flywheel.paths import Paths

home, photos = Path(os.environ["FLYWHEEL_HOME"]), Path(sys.argv[1])
server = RunServer()
os.environ["PREFECT_API_URL"] = server.api_url

from prefect import flow
from prefect.context import FlowRunContext
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flywheel.records import ValidationResult, to_json
from flywheel.settings import DataParameters
from tasks.reporting import stage_seconds
from tasks.stages import index_images, fetch, make_dataset

server.wait_until_ready()
PARAMETERS = DataParameters(source=str(photos), size=8)

@flow
def prepare():
    with stage_seconds() as seconds:
        index = index_images(fetch(PARAMETERS))
        version = make_dataset(index, ValidationResult("images", index.id, ()), PARAMETERS)
    return str(FlowRunContext.get().flow_run.id), list(seconds), index, version

def states(flow_run_id):
    "Of all three stages, once the server has heard of their ends."
    from prefect.client.schemas.filters import FlowRunFilter
    import time
    with get_client(sync_client=True) as client:
        for _ in range(200):
            runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [flow_run_id]}))
            if len(runs) == 3 and all(run.state and run.state.is_final() for run in runs):
                return {run.task_key.rpartition("-")[0]: run.state.name for run in runs}
            time.sleep(0.1)
    raise SystemExit(f"three finished stages expected, {runs} found")

def told(name):
    flow_run_id, seconds, index, version = prepare()
    whole = (version.folder / "manifest.json").is_file() and index.path.is_file()
    told = {"name": name, "states": states(flow_run_id), "heard": seconds, "version": to_json(version), "whole": whole}
    print(json.dumps(told), flush=True)
    return version

# a flow waits a second for its heart to stop
quiet = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
quiet.__enter__()
told("first")
version = told("second")
shutil.rmtree(version.folder)
told("folder deleted")
images = version.folder / "images.npy"
images.write_bytes(images.read_bytes()[:-1] + b"!")
told("folder damaged")
for record in (home / ".flywheel/prefect-results").iterdir():
    record.write_bytes(b"{ no record")
told("records damaged")
(photos / "cat" / "000.png").unlink()
told("data changed")
wrapper = psutil.Process(server._process.pid)
print(json.dumps({"server": [wrapper.pid, *(child.pid for child in wrapper.children(recursive=True))]}))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("fly wheel")
    rng = np.random.default_rng(0)
    for name, channel in (("cat", 0), ("dog", 2)):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(60):
            image = rng.integers(0, 100, (8, 8, 3), dtype=np.uint8)
            image[..., channel] += 100
            Image.fromarray(image).save(folder / "photos" / name / f"{number:03d}.png")
    environment = {**clean_environment(), "FLYWHEEL_HOME": str(folder / "home")}
    (folder / "home" / ".flywheel").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", SCENARIO, str(folder / "photos")],
        cwd=ROOT,
        env={**environment, "PREFECT_LOGGING_LEVEL": "WARNING"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cache_key_fn" not in done.stdout + done.stderr, "Prefect's warning at each start"
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = {line["name"]: line for line in lines if "name" in line}
    found["server"] = lines[-1]
    found["home"] = {"path": str(folder / "home")}
    return found


def states(told: dict[str, dict], name: str) -> tuple[str, str, str]:
    found = told[name]["states"]
    return found["fetch"], found["index_images"], found["make_dataset"]


def test_what_was_made_is_cached_the_next_time(told: dict[str, dict]) -> None:
    assert states(told, "first") == ("Completed", "Completed", "Completed")
    assert states(told, "second") == ("Completed", "Cached", "Cached")
    assert told["second"]["version"] == told["first"]["version"]


def test_a_cached_stage_is_still_heard_of(told: dict[str, dict]) -> None:
    assert told["second"]["heard"] == told["first"]["heard"] == ["fetch source", "index", "make dataset"]


def test_a_deleted_folder_is_made_again_whatever_is_remembered(told: dict[str, dict]) -> None:
    assert states(told, "folder deleted") == ("Completed", "Cached", "Completed")
    assert told["folder deleted"]["whole"]
    assert told["folder deleted"]["version"] == told["first"]["version"]


def test_a_damaged_folder_is_made_again(told: dict[str, dict]) -> None:
    assert states(told, "folder damaged") == ("Completed", "Cached", "Completed")


def test_a_damaged_record_costs_a_look_and_no_more(told: dict[str, dict]) -> None:
    assert states(told, "records damaged") == ("Completed", "Completed", "Completed")
    assert told["records damaged"]["version"] == told["first"]["version"]


def test_changed_data_is_indexed_and_packed_again(told: dict[str, dict]) -> None:
    assert states(told, "data changed") == ("Completed", "Completed", "Completed")
    assert told["data changed"]["version"] != told["first"]["version"]


def test_records_are_json_and_no_pickles(told: dict[str, dict]) -> None:
    records = list(Path(told["home"]["path"], ".flywheel", "prefect-results").iterdir())
    assert records
    for record in records:
        content = json.loads(record.read_text(encoding="utf-8"))
        assert content["metadata"]["serializer"]["type"] == "json"
        json.loads(content["result"])


def test_the_server_ends_with_its_run(told: dict[str, dict]) -> None:
    assert len(told["server"]["server"]) == 2
    assert not any(map(psutil.pid_exists, told["server"]["server"]))
