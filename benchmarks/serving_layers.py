"""Where a request's CPU time goes, layer by layer from the socket to the prediction log.

The service is served as far as each layer, with a constant in place of what would follow: `serving_arms/staged.py`.
All stages stand at once and are asked in turns; a layer's time is that of its stage less the stage before. The last
stage must take what the really built Bento takes, or the stages are not the service.
"""

import argparse
import contextlib
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from scipy.stats import t as student

from benchmarks.results import Claim, Figures, write_result
from benchmarks.servers import CONSTANT, EVERYTHING, KEY, OURS, Images, Loads, Server, others, ours
from benchmarks.service import Home, started, wait_until_ready
from benchmarks.serving import QUICK_RECIPE, SMALL_RECIPE
from benchmarks.serving_arms.stages import MODEL_TAG, ORDER, STAGE, Stage
from benchmarks.turns import ratio

CONNECTIONS = (16, 64)
SAME = (0.9, 1.1)  # the last stage's CPU time to the Bento's
QUICK = (Stage.CONSTANT, Stage.GUARDS, Stage.UPLOAD, Stage.DECODE, Stage.MODEL)
TOLD = {Stage.MODEL, Stage.LOG}  # the stages whose answers are the model's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", "--SOURCE", default="digits")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.2, help="of each load")
    parser.add_argument(
        "--quick", action="store_true", help="some stages, little load: whether all runs; keeps nothing"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flywheel-layers-", ignore_cleanup_errors=True) as scratch:
        if given.quick:
            measured(Home(Path(scratch), given.source, QUICK_RECIPE, ["0"]), QUICK, (16,), 2, 0.3)
            return
        home = Home(Path(scratch), given.source, SMALL_RECIPE, ["0"])
        figures: Figures = {"rounds": given.rounds, "seconds_each": given.seconds, "source": Path(given.source).name}
        figures |= measured(home, ORDER, CONNECTIONS, given.rounds, given.seconds)
    write_result(claim_of(figures))


def measured(home: Home, stages: Sequence[Stage], counts: Sequence[int], rounds: int, seconds: float) -> Figures:
    model = home.settings.paths.model(home.models[0])
    images = Images.of(home.files(200), model)
    home.promote(home.models[0])
    table: dict[str, dict[str, float]] = {}
    same: dict[str, dict[str, float]] = {}
    with contextlib.ExitStack() as stack:
        servers = [replace(each, name=Stage.CONSTANT.value) for each in others(home, model, [CONSTANT], stack)]
        servers += [ours(home, stack), *_staged(home, [one for one in stages if one is not Stage.CONSTANT], stack)]
        for connections in counts:
            costs = _costs(servers, images, connections, rounds, seconds)
            _tell(costs, stages, connections, table)
            same[str(connections)] = ratio(costs[stages[-1].value], costs[OURS])
    figures: Figures = {"layers_cpu_us": table, "last_stage_of_the_bento": same}
    print(json.dumps(figures, indent=1, ensure_ascii=False), flush=True)
    return figures


def _staged(home: Home, stages: Sequence[Stage], stack: contextlib.ExitStack) -> Iterator[Server]:
    """They start together."""
    served = "benchmarks.serving_arms.staged:Staged"
    command = [sys.executable, "-m", "bentoml", "serve", served, "--host", "127.0.0.1", "--port"]
    logs = home.settings.paths.state
    standing = {stage: stack.enter_context(started(command, _environment(home, stage), logs)) for stage in stages}
    for stage, (url, process) in standing.items():
        wait_until_ready(url, process)
        yield Server(stage.value, url, psutil.Process(process.pid), False, KEY, answers_constantly=stage not in TOLD)


def _environment(home: Home, stage: Stage) -> dict[str, str]:
    return {
        **home.environment,
        **EVERYTHING,
        "FLYWHEEL_SERVICE_LOG": str(stage is Stage.LOG),
        "BENTOML_HOME": str(home.settings.paths.bentoml),
        "BENTOML_DO_NOT_TRACK": "True",
        STAGE: stage.value,
        MODEL_TAG: f"classifier:{home.models[0].partition('-')[2]}",
    }


def _costs(
    servers: Sequence[Server], images: Images, connections: int, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """CPU us a request, by stage and round."""
    for server in servers:
        server.asked(images, connections, min(1.0, seconds))
    found = {server.name: Loads() for server in servers}
    order, shuffle = list(servers), random.Random(connections).shuffle  # noqa: S311 - an order, no secret
    for _ in range(rounds):
        shuffle(order)
        for server in order:
            server.asked(images, connections, seconds, found[server.name])
    failed = {name: loads.failed for name, loads in found.items() if loads.failed}
    if failed:
        raise SystemExit(f"requests failed: {failed}")
    return {name: loads.cpu for name, loads in found.items()}


def _tell(
    costs: dict[str, list[float]], stages: Sequence[Stage], connections: int, table: dict[str, dict[str, float]]
) -> None:
    before = [0.0] * len(costs[OURS])
    for stage in stages:
        now = costs[stage.value]
        table[f"{stage.value} | {connections}"] = _mean([one - less for one, less in zip(now, before, strict=True)])
        before = now
    table[f"all | {connections}"] = _mean(before)


def _mean(values: Sequence[float]) -> dict[str, float]:
    """With a 95 % interval by Student's t."""
    mean, count = statistics.fmean(values), len(values)
    half = float(student.ppf(0.975, count - 1)) * statistics.stdev(values) / count**0.5
    return {"value": round(mean), "low": round(mean - half), "high": round(mean + half)}


def claim_of(figures: Figures) -> Claim:
    same: Any = figures["last_stage_of_the_bento"]
    return Claim(
        name="serving_layers",
        claim="The layers' CPU times add up to those of the service as it is served: to within a tenth.",
        command="make bench NAME=serving_layers SOURCE=<CIFAR-10 as JPEG>",
        figures=figures,
        holds=all(SAME[0] <= each["value"] <= SAME[1] for each in same.values()),
    )


if __name__ == "__main__":
    main()
