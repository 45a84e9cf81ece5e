"""Every command of the README is run here; one that is not known to this file fails the suite."""

import contextlib
import json
import re
import shlex
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, Make, clean_environment, copy_of_the_project

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.removeprefix("$ ") for block in BLOCKS for line in block.splitlines() if line.startswith("$ ")]
TARGETS = re.findall(r"^\| `(make [a-z-]+)", README, re.MULTILINE)

DEPLOYMENT = "test_a_deployment_runs_from_up_to_down"
# Run by a test of its own below, or by the fixture that it names.
RUN_HERE = {
    "make run": "finished_run",
    "make test": "test_make_test_runs_the_suite",
    "make data SOURCE=/path/to/photos": "test_own_images",
    "make run SOURCE=/path/to/photos SUBSET=all SIZE=64 EPOCHS=20": "test_own_images",
    "make predict IMAGE=photo.jpg": "test_predict_one_image",
    "make predict IMAGES=/path/to/folder": "test_predict_a_folder",
    "make serve": "test_serve_and_ask",
    "curl -F image=@photo.jpg http://127.0.0.1:3000/classify": "test_serve_and_ask",
    "make predict IMAGE=photo.jpg URL=http://127.0.0.1:3000": "test_serve_and_ask",
    "make gate-plan IMAGES=8000": "test_the_gate_can_be_asked",
    "make decisions": "test_the_gate_can_be_asked",
    "make replay": "test_the_gate_can_be_asked",
    "make verify-ledger": "test_the_gate_can_be_asked",
    "make monitor": "test_the_champion_is_watched",
    "make retrain": "test_the_champion_is_watched",
    "make rehearse": "test_the_whole_loop_is_rehearsed",
    ".venv/bin/python -m flows.run --help": "test_help_of_every_parameter",
    "make up": DEPLOYMENT,
    ".venv/bin/prefect deployment run 'train-classifier/quickstart' "
    "-p epochs=2 -p smallest_power=0 --watch": DEPLOYMENT,
    "make status": DEPLOYMENT,
    "make down": DEPLOYMENT,
}


def test_every_command_is_known() -> None:
    assert COMMANDS, "the README has no commands"
    assert set(COMMANDS) == set(RUN_HERE)
    tests = {name for name in globals() if name.startswith("test_")} | {"finished_run"}
    assert set(RUN_HERE.values()) <= tests


def test_the_table_lists_every_target() -> None:
    help_text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [f"make {name}" for name in re.findall(r"^  make ([a-z-]+)", help_text, re.MULTILINE)] == TARGETS


def test_help_is_quick() -> None:
    start = time.monotonic()
    subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, check=True)
    assert time.monotonic() - start < 1.0


def test_links_and_pictures_exist() -> None:
    local = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_a_run_ends_in_its_summary(finished_run: str) -> None:
    for pattern in (
        r"dataset +ds-[0-9a-f]{12}",
        r"model +model-[0-9a-f]{12}",
        r"top-1 +0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]",
        r"gate +pass",
        r"Bento +classifier:\S+",
        r"champion +model-[0-9a-f]{12}  promoted",
        r"report +reports/\S+\.html",
        r"BENTOML_HOME=.* \.venv/bin/bentoml serve classifier:",
        r"make predict IMAGE=",
    ):
        assert re.search(pattern, finished_run), f"{pattern} not in:\n{finished_run}"


def test_the_gate_can_be_asked(make: Make, finished_run: str) -> None:
    assert "8,000 frozen images (as you asked) allow 14 gates" in make("gate-plan", "IMAGES=8000").stdout
    assert re.search(r"dec-[0-9a-f]{12} +gate +model-[0-9a-f]{12} +pass", make("decisions").stdout)
    assert "1 of 1 judged again: 0 would end otherwise, 1 are the same to the byte." in make("replay").stdout
    assert "The ledger is whole" in make("verify-ledger").stdout


def test_without_a_key_it_is_said_once_and_the_printed_command_finds_the_run(
    finished_run: str, workspace: Path
) -> None:
    assert finished_run.count("WANDB_API_KEY is not set") == 1
    (command,) = re.findall(r"^  (WANDB_DIR=\S+ .*wandb sync .*)$", finished_run, re.MULTILINE)
    pasted = subprocess.run(
        ["sh", "-c", f"{command} --dry-run"],
        cwd=workspace,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Would sync 1 run(s)" in pasted.stderr
    assert re.search(r"\.flywheel/wandb/offline-run-\S+\.wandb", pasted.stderr)
    assert not (workspace / "wandb").exists()


def test_a_second_run_trains_nothing(finished_run: str, make: Make, workspace: Path) -> None:
    weights = next(workspace.glob("models/model-*/weights.safetensors"))
    before = weights.stat().st_mtime_ns
    again = make("run", "SOURCE=digits", "EPOCHS=1")
    assert again.returncode == 0, again.stdout + again.stderr
    assert weights.stat().st_mtime_ns == before
    assert len(list(workspace.glob("models/model-*"))) == 1
    assert len(list(workspace.glob("data/processed/ds-*"))) == 1
    ids = [re.findall(r"^model +(model-\w+)", text, re.MULTILINE) for text in (finished_run, again.stdout)]
    assert ids[0]
    assert ids[0] == ids[1]
    assert "the champion already" in again.stdout
    assert last_states(workspace / ".flywheel/prefect/prefect.db") == {
        **dict.fromkeys(("fetch", "serve_and_compare", "judge", "report_on", "try_model", "promote"), "Completed"),
        **dict.fromkeys(("index_images", "validate_index", "make_dataset", "validate_dataset"), "Cached"),
        **dict.fromkeys(("train_model", "measure", "package"), "Cached"),
    }


def last_states(database: Path) -> dict[str, str]:
    """Stage's function → the name of the state that it ended in last, as Prefect's server wrote it down."""
    query = "select task_key, state_name from task_run order by start_time"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return {key.rpartition("-")[0]: state for key, state in connection.execute(query)}


def test_the_report_of_a_run_leads_to_the_page_of_its_verdict(finished_run: str, workspace: Path) -> None:
    (report,) = re.findall(r"^report +(\S+report\.html)", finished_run, re.MULTILINE)
    page = (workspace / report).read_text(encoding="utf-8")
    (link,) = re.findall(r'href="(\.\./dec-[0-9a-f]{12}/verdict\.html)"', page)
    verdict = ((workspace / report).parent / link).read_text(encoding="utf-8")
    assert "may become the task&#39;s first champion" in verdict
    assert f'href="../{Path(report).parent.name}/report.html"' in verdict
    assert "serving parity" in verdict


def test_make_test_runs_the_suite(make: Make) -> None:
    done = make("test", PYTEST_ADDOPTS="-k identity_is_content -p no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


LOOKING = ["install", "champion", "history", "decisions", "visualize", "bench", "explain", "verify-ledger", "migrate"]


@pytest.mark.parametrize("target", LOOKING)
def test_looking_at_what_a_run_left(target: str, finished_run: str, make: Make) -> None:
    done = make(target)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("wrong", "next_step"), [("MODEL=resnet81", "Did you mean"), ("DEVICE=mps", "Try DEVICE=auto")]
)
def test_what_cannot_be_is_refused_before_a_server_starts_or_the_data_is_touched(
    wrong: str, next_step: str, make: Make
) -> None:
    if sys.platform == "darwin":
        wrong = wrong.replace("mps", "cuda")
    done = make("train", "SOURCE=digits", wrong)
    assert done.returncode != 0
    assert next_step in done.stdout
    assert "fetch source" not in done.stdout
    assert "Prefect server" not in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_champion_names_the_promoted_model(finished_run: str, make: Make) -> None:
    promoted = re.search(r"champion +(model-\w+)  promoted", finished_run)
    assert promoted
    assert promoted.group(1) in make("champion").stdout


@pytest.fixture(scope="module")
def trained_again(finished_run: str, make: Make) -> tuple[str, str, str]:
    """What `make champion` said before another model was trained, what the training printed, and the champion after."""
    before = make("champion").stdout
    done = make("train", "SOURCE=digits", "EPOCHS=1", "SEED=1", "SMALLEST_POWER=0")
    assert done.returncode == 0, done.stdout + done.stderr
    return before, done.stdout, make("champion").stdout


def test_train_leaves_the_champion(trained_again: tuple[str, str, str]) -> None:
    before, printed, after = trained_again
    assert "unchanged" in printed
    assert before == after


def test_a_person_promotes_that_model_and_goes_back(
    finished_run: str, trained_again: tuple[str, str, str], make: Make
) -> None:
    (model,) = re.findall(r"^model +(model-\w+)", trained_again[1], re.MULTILINE)
    first = re.findall(r"^model +(model-\w+)", finished_run, re.MULTILINE)[0]
    refused = make("promote", f"MODEL={model}")
    assert refused.returncode != 0
    assert "a reason is expected" in refused.stderr
    promoted = make("promote", f"MODEL={model}", 'REASON=it isn\'t worse "at night"')
    assert promoted.returncode == 0, promoted.stderr
    assert f'{model} is champion, past its gate instead of {first}: it isn\'t worse "at night"' in promoted.stdout
    back = make("rollback")
    assert back.returncode == 0, back.stderr
    assert f"{first} is champion again instead of {model}" in back.stdout
    for told in (make("explain"), make("explain", f"MODEL={model}"), make("verify-ledger")):
        assert told.returncode == 0, told.stdout + told.stderr


def test_predict_one_image(finished_run: str, make: Make, workspace: Path) -> None:
    line = re.search(r"^  (make predict IMAGE=.*)$", finished_run, re.MULTILINE)
    assert line
    done = make(*shlex.split(line.group(1))[1:])
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^[01]\.\d{4}  \d$", done.stdout, re.MULTILINE)) == 5
    missing = make("predict", "IMAGE=photo.jpg")
    assert missing.returncode != 0
    assert "photo.jpg" in missing.stdout + missing.stderr
    assert "Traceback" not in missing.stderr


def test_predict_a_folder(finished_run: str, make: Make, workspace: Path) -> None:
    folder = next(
        path for path in workspace.glob("data/raw/digits*/**/*") if path.is_dir() and list(path.glob("*.png"))
    )
    done = make("predict", f"IMAGES={folder}")
    assert done.returncode == 0, done.stderr
    table = next(workspace.glob("models/model-*/predictions/*.csv"))
    assert len(table.read_text(encoding="utf-8").splitlines()) == 1 + len(list(folder.glob("*.png")))


def test_serve_and_ask(finished_run: str, make: Make, workspace: Path, free_port: int) -> None:
    image = next(workspace.glob("data/raw/digits*/**/*.png"))
    server = subprocess.Popen(["make", "serve", f"PORT={free_port}"], cwd=workspace, env=clean_environment())
    try:
        wait_until_ready(f"http://127.0.0.1:{free_port}/readyz", server)
        asked = ["curl", "-sS", "-F", f"image=@{image}", f"http://127.0.0.1:{free_port}/classify"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout
        assert '"label"' in answer
        assert re.search(r'"model_id": ?"model-[0-9a-f]{12}"', answer)
        by_url = make("predict", f"IMAGE={image}", f"URL=http://127.0.0.1:{free_port}")
        assert len(re.findall(r"^[01]\.\d{4}  \d$", by_url.stdout, re.MULTILINE)) == 5, by_url.stderr
        (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        snippet = snippet.replace(":3000", f":{free_port}").replace("photo.jpg", str(image)).replace('"cat"', '"7"')
        subprocess.run([sys.executable, "-c", snippet], check=True, timeout=60)
        prediction = json.loads(answer)["prediction_id"]
        explained = make("explain", f"PREDICTION={prediction}")
        assert explained.returncode == 0, explained.stdout + explained.stderr
        for told in (prediction, "champion of task", "trained on dataset version", "read from source digits"):
            assert told in explained.stdout
    finally:
        family = psutil.Process(server.pid).children(recursive=True)
        server.terminate()
        server.wait(60)
        _, alive = psutil.wait_procs(family, timeout=30)
        for left in alive:
            left.kill()
    assert alive == [], "SIGTERM to make must end the server"


def wait_until_ready(address: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended by itself"
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:  # noqa: S310 - an address of this machine
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    raise AssertionError(f"{address} was not ready within 120 s")


def trained_for(epochs: int, workspace: Path) -> bool:
    """Whether a model of the quickstart's other parameters was trained for so many epochs."""
    recipes = [json.loads(file.read_text())["training"]["recipe"] for file in workspace.glob("models/*/model.json")]
    return any(recipe["epochs"] == epochs and recipe["model"] == "airbench_small" for recipe in recipes)


def test_the_champion_is_watched(make: Make, finished_run: str) -> None:
    """Whoever served it before this test sent few images: too few, or none at all, are told as such."""
    assert "champion" in finished_run
    said = make("monitor").stdout
    assert re.search(r"verdict +not enough evidence  (no traffic|waits for more images)", said), said
    assert re.search(r"page +reports/monitoring/task-[0-9a-f]{12}/index.html", said), said
    said = make("retrain").stdout
    assert re.search(r"retraining +not enough evidence  too few labels", said), said
    # one fewer where the image that was labelled before this test is among the 5 % that a service keeps
    assert re.search(r"waits for (300|299) labels more", said), said


@pytest.mark.slow
def test_the_whole_loop_is_rehearsed(tmp_path: Path, two_ports: tuple[int, int]) -> None:
    """From nothing, on digits: from a drift that no estimate can tell, by the labels that it asks for, to the swap."""
    folder = copy_of_the_project(tmp_path / "rehearsed")
    ports = dict(zip(("FLYWHEEL_PREFECT_PORT", "FLYWHEEL_REPORTS_PORT"), map(str, two_ports), strict=True))
    done = subprocess.run(
        ["make", "rehearse", "SOURCE=digits"],
        cwd=folder,
        env={**clean_environment(), **ports},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for pattern in (
        r"judged by +digits: a margin of 5 points",
        r"ended +it helped, and was released",
        r"requests failed +0",
        r"false alarms +0",
        r"labels come in that were asked for",
        r"monitor-classifier/hourly  \S+  Completed",
        r"retrain-classifier/on-drift  \S+  Completed  by automation",
    ):
        assert re.search(pattern, done.stdout), pattern
    assert len(list((folder / "reports" / "rehearsals").glob("mix-*/rehearsal.png"))) == 1
    assert not (folder / "prefect.toml").exists()


def test_a_deployment_runs_from_up_to_down(make: Make, workspace: Path, two_ports: tuple[int, int]) -> None:
    ports = dict(zip(("FLYWHEEL_PREFECT_PORT", "FLYWHEEL_REPORTS_PORT"), map(str, two_ports), strict=True))
    up = make("up", **ports)
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        assert str(two_ports[0]) in up.stdout
        assert "already" in make("up", **ports).stdout
        (command,) = [shlex.split(each) for each in COMMANDS if "prefect deployment run" in each]
        command += ["-p", "source=digits"]
        environment = {**clean_environment(), **ports}
        ran = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert trained_for(2, workspace), "-p epochs=2"
        assert "train-classifier" in make("status", **ports).stdout
    finally:
        down = make("down", **ports)
    assert down.returncode == 0, down.stdout + down.stderr
    assert not (workspace / "prefect.toml").exists()


def test_own_images(photos: Path, make: Make) -> None:
    data = make("data", f"SOURCE={photos}")
    assert data.returncode == 0, data.stdout + data.stderr
    assert "dataset" in data.stdout
    run = make("run", f"SOURCE={photos}", "SUBSET=all", "SIZE=64", "EPOCHS=1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"gate +(pass|fail|not enough evidence)", run.stdout)


def test_help_of_every_parameter(workspace: Path) -> None:
    command = [".venv/bin/python", "-m", "flows.run", "--help"]
    said = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=True).stdout
    for option in ("--source", "--epochs", "--largest-ece"):
        assert option in said


@pytest.mark.slow
def test_quickstart_as_written(tmp_path: Path) -> None:
    from tests.conftest import copy_of_the_project

    folder = copy_of_the_project(tmp_path / "flywheel")
    done = subprocess.run(
        ["make", "run"], cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "promoted" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("target", ["check", "format", "test-all", "clean"])
def test_targets_of_those_who_build_it(target: str, make: Make) -> None:
    done = make(target, PYTEST_ADDOPTS="-k identity_is_content", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.network
def test_the_lock_is_made_from_the_project_file(make: Make, workspace: Path) -> None:
    assert make("lock", timeout=600).returncode == 0
    assert (workspace / "requirements.txt").read_text(encoding="utf-8").count("--hash=sha256:") > 1000
