"""Pretrained weights against none: a linear probe, fine-tuning, and the same net from scratch, on one frozen set.

Each of the three sees the same training images as often. A frozen backbone is cheaper to pass, so training from scratch
costs at least as much as the other two; the CPU seconds stand beside. Differences are of the same frozen images, with
paired intervals.
"""

import argparse
import resource
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Claim, Figures, write_result
from benchmarks.versions import version_of
from flywheel.evaluation.record import read_predictions
from flywheel.evaluation.statistics import paired_difference
from flywheel.presets import FINETUNE
from flywheel.records import DatasetVersion, Interval
from flywheel.settings import DataParameters, Recipe, Settings, keep_tools_at_home
from tasks.evaluation import evaluate_model
from tasks.training import train

SCRATCH_LEARNING_RATE = 0.002


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--weights", "--WEIGHTS", required=True, help="a .safetensors file of the model's pretrained weights"
    )
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--source", "--SOURCE", required=True, help="a folder of class folders, or cifar10")
    parser.add_argument("--subset", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flywheel-pretrained-") as home:
        settings = Settings(home=Path(home))
        keep_tools_at_home(settings)
        version = prepare(given, settings)
        arms = {name: measure(name, recipe, version, settings) for name, recipe in recipes(given).items()}
    write_result(claim_of(arms, version, given))


def prepare(given: argparse.Namespace, settings: Settings) -> DatasetVersion:
    parameters = DataParameters(source=given.source, subset=given.subset, size=given.size)
    return version_of(parameters, settings)


def recipes(given: argparse.Namespace) -> dict[str, Recipe]:
    """The preset `finetune`, and what the other two arms change of it."""
    base = FINETUNE.with_options({"recipe": {"model": given.model, "epochs": given.epochs}}).recipe
    weights = {"weights": given.weights}
    scratch = {"pretrained": False, "head_epochs": 0, "layer_decay": 1.0, "learning_rate": SCRATCH_LEARNING_RATE}
    return {
        "linear_probe": base.model_copy(update={**weights, "head_epochs": given.epochs}),
        "fine_tuned": base.model_copy(update=weights),
        "from_scratch": base.model_copy(update=scratch),
    }


def measure(name: str, recipe: Recipe, version: DatasetVersion, settings: Settings) -> Mapping[str, Any]:
    """Train in a process of its own, as `make run` does, and evaluate on the frozen side."""
    before = child_seconds()

    def say(event: Mapping[str, Any]) -> None:
        if event["event"] == "epoch":
            print(f"{name}: epoch {event['epoch']}, validation {event['top1_validation']:.3f}", flush=True)

    model = train(version, recipe, "cpu", settings.paths, say, track=False)
    seconds = child_seconds() - before
    evaluation = evaluate_model(model, version, settings.paths)
    print(f"{name}: {evaluation.top1} in {seconds:.0f} CPU-s", flush=True)
    answers = read_predictions(evaluation.folder)
    return {
        "top1": evaluation.top1,
        "right": answers.logits.argmax(1) == answers.labels,
        "cpu_seconds": seconds,
        "ece": evaluation.ece,
    }


def child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> Interval:
    """Top-1 of the first minus the second's, on the same images."""
    one: NDArray[np.bool_] = first["right"]
    two: NDArray[np.bool_] = second["right"]
    return paired_difference(
        int((one & two).sum()), int((one & ~two).sum()), int((~one & two).sum()), int((~one & ~two).sum())
    )


def claim_of(arms: dict[str, Mapping[str, Any]], version: DatasetVersion, given: argparse.Namespace) -> Claim:
    over_probe = difference(arms["fine_tuned"], arms["linear_probe"])
    over_scratch = difference(arms["fine_tuned"], arms["from_scratch"])
    figures: Figures = {
        "training_images": version.counts["train"],
        "frozen_images": version.counts["frozen"],
        "size": given.size,
        "epochs": given.epochs,
    }
    for name, arm in arms.items():
        figures[f"{name}_top1"] = rounded(arm["top1"])
        figures[f"{name}_cpu_seconds"] = round(arm["cpu_seconds"], 1)
    figures["fine_tuned_minus_linear_probe"] = rounded(over_probe)
    figures["fine_tuned_minus_from_scratch"] = rounded(over_scratch)
    figures["linear_probe_minus_from_scratch"] = rounded(difference(arms["linear_probe"], arms["from_scratch"]))
    as_dear = arms["from_scratch"]["cpu_seconds"] >= 0.95 * arms["fine_tuned"]["cpu_seconds"]
    return Claim(
        name="pretrained",
        claim="Fine-tuning pretrained weights beats a linear probe on them, and the same net from scratch at no less "
        "cost, on the same frozen images.",
        command=f"make bench NAME=pretrained WEIGHTS={Path(given.weights).name} SOURCE=<CIFAR-10 as JPEG>",
        figures=figures,
        holds=over_probe.low > 0 and over_scratch.low > 0 and as_dear,
    )


def rounded(interval: Interval) -> dict[str, float]:
    return {"value": round(interval.value, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}


if __name__ == "__main__":
    main()
