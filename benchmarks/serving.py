"""The service with everything on against its peers and against the limit of the cores.

One small model, served by two workers each: ours as `make serve` starts it (log, metrics, keys, rate limit), ours
without its log, plain FastAPI under uvicorn with the same batcher, BentoML's own batchable API, LitServe, and a
constant answer under uvicorn. All stand at once, one is asked at a time, in an order that is shuffled each round, and
ratios are taken within a round. Every answer is compared with the model's. Then a heavy model and the batch endpoint
against what the same cores decode and classify without a server.
"""

import argparse
import contextlib
import json
import random
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.load import Target, run_load
from benchmarks.results import Claim, Figures, write_result
from benchmarks.servers import (
    CONSTANT,
    FORM,
    KEY,
    LITSERVE,
    NATIVE,
    OURS,
    PLAIN,
    UNLOGGED,
    Images,
    Loads,
    Server,
    others,
    ours,
)
from benchmarks.service import Home
from benchmarks.serving_arms.net import BATCH
from benchmarks.serving_limit import Limit
from benchmarks.turns import ratio

CONNECTIONS = (1, 16, 64)
HEAVY_CONNECTIONS = (16, 64)
BATCH_CONNECTIONS = 4  # if one worker takes them all, its queue just holds their images
LIMIT = "the limit"
HEAVY = "resnet18"
PEERS = (NATIVE, LITSERVE)  # they take forms, so ours is asked by forms beside them
OF_PLAIN, OF_PEERS, OF_HEAVY_LIMIT, OF_BATCH_LIMIT = 0.8, 2.0, 0.9, 0.8
TELL_SECONDS = 2.0  # workers refresh their metrics once a second
QUICK_RECIPE = ("--EPOCHS", "1", "--SUBSET", "300")
SMALL_RECIPE = ("--EPOCHS", "2", "--SUBSET", "1500")
HEAVY_RECIPE = ("--MODEL", HEAVY, "--STEM", "small", "--EPOCHS", "1", "--SUBSET", "300")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", "--SOURCE", default="digits")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each load")
    parser.add_argument("--quick", action="store_true", help="one peer, little load: whether all runs; keeps nothing")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flywheel-serving-", ignore_cleanup_errors=True) as scratch:
        if given.quick:
            against_peers(Home(Path(scratch, "quick"), given.source, QUICK_RECIPE, ["0"]), (PLAIN,), (16,), 2, 0.3)
            return
        small = Home(Path(scratch, "small"), given.source, SMALL_RECIPE, ["0"])
        heavy = Home(Path(scratch, "heavy"), given.source, HEAVY_RECIPE, ["0"])
        figures: Figures = {"rounds": given.rounds, "seconds_each": given.seconds, "source": Path(given.source).name}
        figures |= against_peers(small, (UNLOGGED, PLAIN, CONSTANT, *PEERS), CONNECTIONS, given.rounds, given.seconds)
        figures["heavy"] = against_the_limit(heavy, given.rounds, 2 * given.seconds)
    write_result(claim_of(figures))


def against_peers(home: Home, names: Sequence[str], counts: Sequence[int], rounds: int, seconds: float) -> Figures:
    model = home.settings.paths.model(home.models[0])
    images = Images.of(home.files(200), model)
    home.promote(home.models[0])
    with contextlib.ExitStack() as stack:
        limit = stack.enter_context(Limit(model, images.files))
        servers = {each.name: each for each in _servers(home, model, names, stack)}
        servers_table: dict[str, float] = {}
        ratios: dict[str, dict[str, float]] = {}
        for connections in counts:
            found = _compared(list(servers.values()), limit, images, connections, rounds, seconds)
            _tell(found, connections, servers_table, ratios)
        batches = _batch_endpoint(servers[OURS], limit, images, rounds, seconds)
        return {"servers": servers_table, "ratios": ratios, **batches}


def _servers(home: Home, model: Path, names: Sequence[str], stack: contextlib.ExitStack) -> Iterator[Server]:
    served = ours(home, stack)
    yield served
    yield Server(FORM, served.url, served.process, multipart=True, headers=KEY)
    if UNLOGGED in names:
        yield ours(home, stack, log=False)
    yield from others(home, model, [name for name in names if name != UNLOGGED], stack)


def _compared(
    servers: Sequence[Server], limit: Limit, images: Images, connections: int, rounds: int, seconds: float
) -> dict[str, Loads]:
    """By name. Each is warmed at this number of connections: BentoML's own waits as long as it did under the last."""
    for server in servers:
        server.asked(images, connections, min(1.0, seconds))
    batch = max(1, round(_mean_batch(servers[0], images, connections, seconds)))
    found = {name: Loads() for name in (*(server.name for server in servers), LIMIT)}
    order: list[Server | None] = [*servers, None]  # None: the limit
    shuffle = random.Random(connections).shuffle  # noqa: S311 - an order, no secret
    for _ in range(rounds):
        shuffle(order)
        for server in order:
            if server is None:
                found[LIMIT].rate.append(limit.images_a_second(batch, seconds))
            else:
                server.asked(images, connections, seconds, found[server.name])
    return found


def _tell(
    found: Mapping[str, Loads], connections: int, table: dict[str, float], ratios: dict[str, dict[str, float]]
) -> None:
    for name, loads in found.items():
        row = {"a second": round(statistics.median(loads.rate))} if name == LIMIT else loads.row
        table |= {f"{connections} | {name} | {column}": value for column, value in row.items()}
    for other in (name for name in found if name not in {OURS, FORM}):
        one = FORM if other in PEERS else OURS
        ratios[f"{connections} | {other} | answers a second"] = ratio(found[one].rate, found[other].rate)
        if other != LIMIT:
            ratios[f"{connections} | {other} | p99"] = ratio(found[one].p99, found[other].p99)
    shown = {key: value for key, value in {**table, **ratios}.items() if key.startswith(f"{connections} |")}
    print(json.dumps(shown, indent=1, ensure_ascii=False), flush=True)


def _mean_batch(server: Server, images: Images, connections: int, seconds: float) -> float:
    """Images that went through the model at once, as the service counts them."""
    before = _counted(server)
    server.asked(images, connections, seconds)
    after = _counted(server)
    return (after[0] - before[0]) / (after[1] - before[1])


def _counted(server: Server) -> tuple[float, float]:
    """Images and batches so far."""
    time.sleep(TELL_SECONDS)
    text = httpx.get(f"{server.url}/metrics", headers=dict(server.headers), trust_env=False).text
    images, batches = (
        re.search(rf"^flywheel_batch_images_{kind} (\S+)", text, re.MULTILINE) for kind in ("sum", "count")
    )
    return float(images[1]) if images else 0.0, float(batches[1]) if batches else 0.0


def _batch_endpoint(server: Server, limit: Limit, images: Images, rounds: int, seconds: float) -> Figures:
    """`BATCH` files a request; every answer about every file is compared."""
    count = len(images.files)
    rows = [[(first + each) % count for each in range(BATCH)] for first in range(0, count, 16)]
    several = [[images.files[row] for row in batch] for batch in rows]
    target = Target.of_batches(server.url, several, path="/classify_batch", headers=server.headers)
    found, most = [], []
    for _ in range(rounds):
        answers = run_load(target, BATCH_CONNECTIONS, seconds, keep_bodies=True)
        if answers.failed:
            raise SystemExit(f"/classify_batch failed: {answers.failures}")
        for number, body in answers.bodies:
            for row, result in zip(rows[number], json.loads(body)["results"], strict=True):
                images.check("/classify_batch", row, result)
        found.append(BATCH * answers.rate)
        most.append(limit.images_a_second(BATCH, seconds))
    shares = {"batch_endpoint_of_the_limit": ratio(found, most)}
    print(json.dumps(shares), flush=True)
    return {**shares, "batch_endpoint_images_a_second": round(statistics.median(found))}


def against_the_limit(home: Home, rounds: int, seconds: float) -> dict[str, Any]:
    """A model beside which the layers around it hardly count."""
    model, figures = home.settings.paths.model(home.models[0]), {}
    images = Images.of(home.files(60), model)
    home.promote(home.models[0])
    with contextlib.ExitStack() as stack:
        limit, server = stack.enter_context(Limit(model, images.files)), ours(home, stack)
        for connections in HEAVY_CONNECTIONS:
            batch = max(1, round(_mean_batch(server, images, connections, seconds)))
            loads, most = Loads(), []
            for number in range(rounds):
                if number % 2:
                    most.append(limit.images_a_second(batch, seconds))
                server.asked(images, connections, seconds, loads)
                if not number % 2:
                    most.append(limit.images_a_second(batch, seconds))
            row = {**loads.row, "images in a batch": batch, "of the limit": ratio(loads.rate, most)}
            figures |= {f"{HEAVY} | {connections} | {column}": value for column, value in row.items()}
            print(json.dumps(row, ensure_ascii=False), flush=True)
    return figures


def claim_of(figures: Figures) -> Claim:
    """What of the claim holds, and which parts fall short."""
    table, ratios, heavy = (dict[str, Any](figures[name]) for name in ("servers", "ratios", "heavy"))  # type: ignore[arg-type]

    def times(count: int, other: str, what: str = "answers a second") -> float:
        return float(ratios[f"{count} | {other} | {what}"]["value"])

    batch: Any = figures["batch_endpoint_of_the_limit"]
    points = {
        "plain": all(times(count, PLAIN) >= OF_PLAIN for count in CONNECTIONS),
        "peers": all(times(count, peer) >= OF_PEERS for peer in PEERS for count in (16, 64)),
        "alone": all(times(1, peer) >= 1 for peer in PEERS),
        "p99": all(times(count, peer, "p99") < 1 for peer in PEERS for count in CONNECTIONS),
        "heavy": all(heavy[f"{HEAVY} | {count} | of the limit"]["value"] >= OF_HEAVY_LIMIT for count in (16, 64)),
        "batch": batch["value"] >= OF_BATCH_LIMIT,
        "failed": not any(table[f"{count} | {name} | failed"] for count in CONNECTIONS for name in (OURS, FORM)),
    }
    short = [name for name, holds in points.items() if not holds]
    return Claim(
        name="serving",
        claim=f"With its log, metrics, keys and rate limit on, the service answers at least {OF_PLAIN} times as many "
        f"requests as plain FastAPI with the same batcher, {OF_PEERS:g} times as many as BentoML's own batchable API "
        f"and LitServe at 16 and 64 connections and no fewer at 1, each with a lower p99; of a ResNet-18 it answers "
        f"{OF_HEAVY_LIMIT:.0%} of what the cores can, by the batch endpoint {OF_BATCH_LIMIT:.0%}.",
        command="make bench NAME=serving SOURCE=<CIFAR-10 as JPEG>",
        figures={**figures, "falls_short": ", ".join(short)},
        holds=not short,
    )


if __name__ == "__main__":
    main()
