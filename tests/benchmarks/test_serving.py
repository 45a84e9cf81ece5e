"""The parts of the serving benchmarks that judge; and both of them whole, in small, where slow tests run."""

import subprocess
import sys
from typing import Any

import pytest

from benchmarks.load import Answers
from benchmarks.results import RESULTS
from benchmarks.servers import CONSTANT, FORM, LITSERVE, NATIVE, OURS, PLAIN, UNLOGGED, Images, Loads, WrongAnswerError
from benchmarks.serving import CONNECTIONS, HEAVY, LIMIT, claim_of
from benchmarks.serving_arms.stages import ORDER, Stage
from benchmarks.serving_layers import claim_of as layers_claim_of
from tests.conftest import ROOT

CAT = {"label": "cat", "confidence": 0.75}


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def figures_that_hold() -> dict[str, Any]:
    """Each at the edge of what is claimed."""
    ratios = {}
    for count in CONNECTIONS:
        for peer in (NATIVE, LITSERVE):
            ratios[f"{count} | {peer} | answers a second"] = interval(2.0 if count > 1 else 1.0)
            ratios[f"{count} | {peer} | p99"] = interval(0.99)
        for other in (PLAIN, UNLOGGED, CONSTANT, LIMIT):
            ratios[f"{count} | {other} | answers a second"] = interval(0.8)
    servers = {f"{count} | {name} | failed": 0 for count in CONNECTIONS for name in (OURS, FORM)}
    heavy = {f"{HEAVY} | {count} | of the limit": interval(0.9) for count in (16, 64)}
    return {"servers": servers, "ratios": ratios, "heavy": heavy, "batch_endpoint_of_the_limit": interval(0.8)}


def test_what_reaches_every_edge_holds() -> None:
    claim = claim_of(figures_that_hold())
    assert claim.holds
    assert claim.figures["falls_short"] == ""


@pytest.mark.parametrize(
    ("table", "cell", "value", "short"),
    [
        ("ratios", f"1 | {PLAIN} | answers a second", interval(0.79), "plain"),
        ("ratios", f"64 | {LITSERVE} | answers a second", interval(1.99), "peers"),
        ("ratios", f"1 | {NATIVE} | answers a second", interval(0.99), "alone"),
        ("ratios", f"16 | {NATIVE} | p99", interval(1.0), "p99"),
        ("heavy", f"{HEAVY} | 64 | of the limit", interval(0.89), "heavy"),
        ("servers", f"64 | {FORM} | failed", 1, "failed"),
    ],
)
def test_a_part_that_falls_short_is_named(table: str, cell: str, value: Any, short: str) -> None:
    figures = figures_that_hold()
    assert cell in figures[table]
    figures[table][cell] = value
    claim = claim_of(figures)
    assert not claim.holds
    assert claim.figures["falls_short"] == short


def test_an_answer_is_compared_with_the_models() -> None:
    images = Images((b"", b""), ({"label": "dog", "confidence": 0.9}, CAT))
    images.check("a server", 1, CAT)
    images.check("a server", 1, [{**CAT, "confidence": 0.7505}])
    for wrong in ({**CAT, "label": "dog"}, {**CAT, "confidence": 0.76}, {"error": "overloaded"}):
        with pytest.raises(WrongAnswerError, match=r"a server, image 1: .*cat.* expected"):
            images.check("a server", 1, wrong)


def test_of_a_server_the_median_load_is_told() -> None:
    loads = Loads()
    for count, cpu in ((10, 0.01), (20, 0.04), (30, 0.03)):
        loads.add(Answers(seconds=[0.001] * (count - 1) + [0.5], wall=2.0), cpu)
    assert loads.row == {"a second": 10, "p50 ms": 1.0, "p99 ms": 500.0, "CPU µs a request": 1000, "failed": 0}


def test_the_stages_of_the_layers_must_add_up_to_the_service() -> None:
    def figures(share: float) -> dict[str, Any]:
        return {"last_stage_of_the_bento": {"16": interval(1.0), "64": interval(share)}}

    assert layers_claim_of(figures(1.1)).holds
    assert not layers_claim_of(figures(1.11)).holds
    assert not layers_claim_of(figures(0.89)).holds
    assert ORDER[0] is Stage.CONSTANT
    assert ORDER[-1] is Stage.LOG


@pytest.mark.slow
@pytest.mark.parametrize("name", ["serving", "serving_layers"])
def test_a_quick_run_measures_a_really_served_bento_and_keeps_nothing(name: str) -> None:
    kept = (RESULTS / f"{name}.json").read_bytes()
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (f"16 | {PLAIN} | answers a second" if name == "serving" else Stage.MODEL.value) in done.stdout
    assert (RESULTS / f"{name}.json").read_bytes() == kept
