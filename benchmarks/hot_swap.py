"""The champion changes while a service answers: does a request fail, does an answer mix two models, what does it cost?

A home with two models of one task, served by two workers under a closed loop; the champion is changed in the ledger,
and every answer is compared with the softmax of the model that it names, computed in this process.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.load import Answers, Target, run_load
from benchmarks.results import Claim, write_result
from benchmarks.service import Home, serving, workers
from flywheel.data.decode import decode
from flywheel.model.inference import load_model, softmax

CONNECTIONS = 16
NEAR_SECONDS = 2.2  # a swap is seen within one second by each worker, and done in less than another
TOLERANCE = 2e-3
SMALLEST_DIFFERENCE = 0.01  # of a probability, between the two models on every image that is sent
LEAST_FILES = 20
MOST_RATIO = 1.5
MOST_GROWTH_MB = 30
MEGABYTE = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", "--SOURCE", default="digits")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--more-swaps", type=int, default=90, help="without load, for the memory")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flywheel-swap-", ignore_cleanup_errors=True) as scratch:
        home = Home(Path(scratch), given.source, ("--EPOCHS", "3"))
        files = _telling(home, home.files(1000))
        expected = {model: _softmax(home, model, files) for model in home.models}
        with serving(home) as (url, service):
            run_load(Target.of_files(url, files), CONNECTIONS, 5)  # warm
            memory = [_memory(service)]
            answers, swapped = _under_load(home, url, files, given.seconds, given.swaps)
            memory.append(_memory(service))
            _swap(home, given.more_swaps, 1.3)
            memory.append(_memory(service))
    write_result(_claim(answers, swapped, expected, memory, given))


def _under_load(
    home: Home, url: str, files: Sequence[bytes], seconds: float, swaps: int
) -> tuple[Answers, list[float]]:
    """The answers, and when the champion was changed."""
    target = Target.of_files(url, files, path=f"/classify?top_k={1000}")
    with ProcessPoolExecutor(1) as pool:
        load = pool.submit(run_load, target, CONNECTIONS, seconds, keep_bodies=True)
        time.sleep(seconds / (swaps + 1))
        swapped = _swap(home, swaps, seconds / (swaps + 1))
        return load.result(), swapped


def _swap(home: Home, count: int, pause: float) -> list[float]:
    moments = []
    for _ in range(count):
        champion = home.ledger.champion()
        assert champion is not None
        other = next(model for model in home.models if model != champion.model_id)
        moments.append(time.perf_counter())
        home.promote(other)
        time.sleep(max(0.0, pause - (time.perf_counter() - moments[-1])))
    return moments


def _softmax(home: Home, model_id: str, files: Sequence[bytes]) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    classifier = load_model(home.settings.paths.model(model_id))
    return classifier.model.classes, softmax(classifier.classify([decode(file) for file in files]).logits)


def _telling(home: Home, files: Sequence[bytes]) -> list[bytes]:
    """The images on which the two models differ enough to tell whose answer it is."""
    first, second = (_softmax(home, model, files)[1] for model in home.models)
    chosen = np.flatnonzero(np.abs(first - second).max(1) >= SMALLEST_DIFFERENCE)
    if len(chosen) < LEAST_FILES:
        raise SystemExit(f"{LEAST_FILES} images that tell the models apart expected, {len(chosen)} found.")
    return [files[place] for place in chosen]


def _memory(service: psutil.Process) -> float:
    """MB of the worker that holds most."""
    time.sleep(3)
    return max(each.memory_info().rss for each in workers(service)) / MEGABYTE


def _claim(
    answers: Answers, swapped: Sequence[float], expected: dict[str, Any], memory: Sequence[float], given: Any
) -> Claim:
    mixed, by_model = 0, dict.fromkeys(expected, 0)
    for number, body in answers.bodies:
        answer = json.loads(body)
        classes, wanted = expected[answer["model_id"]]
        found = {each["label"]: each["confidence"] for each in answer["top_k"]}
        by_model[answer["model_id"]] += 1
        mixed += bool(max(abs(found[name] - wanted[number][row]) for row, name in enumerate(classes)) > TOLERANCE)
    first, second = (probabilities for _, probabilities in expected.values())
    apart = np.abs(first - second).max(1)
    at, seconds = np.array(answers.at), np.array(answers.seconds)
    near = np.any([(at > moment) & (at < moment + NEAR_SECONDS) for moment in swapped], axis=0)
    ratio = float(np.quantile(seconds[near], 0.99) / np.quantile(seconds[~near], 0.99))
    figures = {
        "requests": len(answers.seconds),
        "failed_requests": answers.failed,
        "mixed_answers": mixed,
        "swaps_under_load": len(swapped),
        "swaps": len(swapped) + given.more_swaps,
        "answers_of_the_less_asked_model": min(by_model.values()),
        "smallest_difference_of_the_models": float(apart.min()),
        "images": len(apart),
        "p99_ms_near_a_swap": 1000 * float(np.quantile(seconds[near], 0.99)),
        "p99_ms_elsewhere": 1000 * float(np.quantile(seconds[~near], 0.99)),
        "p99_ratio": ratio,
        "slowest_ms": 1000 * float(seconds.max()),
        "memory_mb": memory[0],
        "memory_growth_mb": memory[2] - memory[0],
        "memory_growth_mb_of_the_last_swaps": memory[2] - memory[1],
    }
    holds = answers.failed == mixed == 0 and ratio <= MOST_RATIO and figures["memory_growth_mb"] <= MOST_GROWTH_MB
    return Claim(
        name="hot_swap",
        claim=f"No request fails and no answer mixes two models while the champion changes {len(swapped)} times under "
        f"{CONNECTIONS} connections; p99 near a swap is at most {MOST_RATIO} times that elsewhere, and "
        f"{figures['swaps']} swaps take at most {MOST_GROWTH_MB} MB.",
        command="make bench NAME=hot_swap",
        figures=figures,
        holds=bool(holds),
    )


if __name__ == "__main__":
    main()
