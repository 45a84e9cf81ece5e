"""What a gate costs: the seconds of a real one, part by part, on the frozen images of CIFAR-10.

Two models of one recipe and two seeds, trained for a moment; one is champion, the other is judged against it, again and
again in a new ledger each time. *All anew*: nothing is kept but both evaluations, so the leak check and both models'
corrupted images are measured. *As usual*: what an earlier gate left of the champion and the training images is there. A
part's time is its own: what a part asks for in another one counts there. SOURCE is CIFAR-10 as class folders.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import flywheel.evaluation.gates as gates
import tasks.gate as gate
from benchmarks.results import Claim, Figures, write_result
from benchmarks.versions import version_of
from flywheel.evaluation.robustness import MANIFEST as ROBUSTNESS
from flywheel.ledger import Kind, Ledger, open_ledger
from flywheel.policies import GatePolicy
from flywheel.records import DatasetVersion, Evaluation, Parity, ProbeResult
from flywheel.settings import DataParameters, Recipe, Settings, keep_tools_at_home
from tasks.evaluation import evaluate_model
from tasks.gate_evidence import Inquiry
from tasks.training import train
from tasks.verdict_page import make_verdict_page

SEEDS = (0, 1)  # the champion's, the challenger's
KINDS = ("all anew", "as usual")
RULE = "rule: "
STATISTICS = ("calibration interval", "what was asked before", "comparison", "slices")  # and all rules
MOST_SECONDS_OF_STATISTICS = 1.0
# The floors shall let a model pass that was trained for a moment; what is computed stays the same.
LENIENT = GatePolicy(lift_over_majority=0, worst_class_recall=0, largest_ece=1)
TOLD = {
    "champion, anchor": "evaluations, looked up",
    "ece": "calibration interval",
    "leaks": "leak check",
    "parity": "parity, looked up",
    "uses": "what was asked before",
    "champion": "comparison",
    "anchor": "comparison",
    "slices": "slices",
    "robustness": "robustness",
    "cost": "latency and size",
}
Times = dict[str, tuple[float, float]]  # part → wall and CPU seconds


@dataclass
class Stopwatch:
    """Wall and CPU seconds of parts that may lie in one another."""

    clock: Callable[[], tuple[float, float]] = lambda: (time.perf_counter(), time.process_time())
    parts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    _inside: list[list[float]] = field(default_factory=list)  # what parts within the open ones took

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        self._inside.append([0.0, 0.0])
        began = self.clock()
        try:
            yield
        finally:
            took = [end - start for end, start in zip(self.clock(), began, strict=True)]
            within = self._inside.pop()
            for place in (0, 1):
                self.parts[part][place] += took[place] - within[place]
                if self._inside:
                    self._inside[-1][place] += took[place]

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def timing(*given: Any, **named: Any) -> Any:
            with self.time(part):
                return call(*given, **named)

        return timing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", "--SOURCE", required=True, help="CIFAR-10 as class folders train/ and test/")
    parser.add_argument("--subset", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flywheel-gate-cost-") as home:
        settings = Settings(home=Path(home), database_url="")
        keep_tools_at_home(settings)
        version, (champion, challenger) = prepare(given, settings)
        rounds: dict[str, list[Times]] = {kind: [] for kind in KINDS}
        for number in range(given.rounds):
            for kind in KINDS:
                rounds[kind].append(one_gate(number, kind, version, champion, challenger, settings))
    write_result(claim_of(rounds, version))


def prepare(given: argparse.Namespace, settings: Settings) -> tuple[DatasetVersion, list[Evaluation]]:
    version = version_of(DataParameters(source=given.source, subset=given.subset), settings)
    evaluations = []
    for seed in SEEDS:
        recipe = Recipe(epochs=given.epochs, seed=seed)
        model = train(version, recipe, "cpu", settings.paths, lambda _: None, track=False)
        evaluations.append(evaluate_model(model, version, settings.paths))
        print(f"{model.id}: {evaluations[-1].top1}", flush=True)
    return version, evaluations


def one_gate(
    number: int,
    kind: str,
    version: DatasetVersion,
    champion: Evaluation,
    challenger: Evaluation,
    settings: Settings,
) -> Times:
    """The times of one judgement and its page; the champion is promoted before, in a ledger of its own."""
    paths = settings.paths
    ledger = open_ledger(f"sqlite:///{paths.home}/{kind.replace(' ', '-')}-{number}.db")
    first = gate.judge_model(champion, version, None, LENIENT, ledger, paths, parity=served_alike(champion))
    make_verdict_page(ledger.decision(first.id), paths)  # drawing is loaded by then
    ledger.promote(version.task_id, champion.model_id, "classifier:champion", first.id, "the first")
    forget(kind, version, champion, challenger)
    watch = Stopwatch()
    with watching(watch, ledger), watch.time("the rest"):
        verdict = gate.judge_model(
            challenger,
            version,
            ledger.champion(version.task_id),
            LENIENT,
            ledger,
            paths,
            parity=served_alike(challenger),
        )
    decision = ledger.decisions(kind=Kind.GATE)[0]
    if decision.id != verdict.id or decision.inputs["problems"] is not None:
        raise SystemExit(f"Not all could be measured: {verdict.reason}")
    with watch.time("page"):
        make_verdict_page(decision, paths)
    found = {part: (wall, cpu) for part, (wall, cpu) in watch.parts.items()}
    whole = sum(wall for wall, _ in found.values()), sum(cpu for _, cpu in found.values())
    print(f"{kind}, round {number + 1}: {whole[0]:.1f} s, {whole[1]:.1f} CPU s. {verdict.reason}", flush=True)
    return {"in all": whole, **found}


def served_alike(evaluation: Evaluation) -> Parity:
    """A Bento that was served and answered: this is measured before the gate, which reads it."""
    return Parity(f"classifier:{evaluation.model_id}", evaluation.model_id, 1e-3, (ProbeResult("jpeg", 0.0),), "", "")


def forget(kind: str, version: DatasetVersion, champion: Evaluation, challenger: Evaluation) -> None:
    """What the gate is to measure anew."""
    anew = [challenger.folder / ROBUSTNESS]
    if kind == "all anew":
        anew += [champion.folder / ROBUSTNESS, *version.folder.glob("leaks-*.json")]
    for path in anew:
        path.unlink(missing_ok=True)


@contextmanager
def watching(watch: Stopwatch, ledger: Ledger) -> Iterator[None]:
    """The gate's own functions, each with its time taken."""

    class Timed(Inquiry):
        def find(self, measure: Callable[[], Any], *parts: str) -> Any:
            with watch.time(TOLD[", ".join(parts)]):
                return super().find(measure, *parts)

        _answers_of = watch.timed("answers read", Inquiry._answers_of)
        _model = watch.timed("models loaded", Inquiry._model)

    with ExitStack() as patches:
        patches.enter_context(patch.object(gate, "Inquiry", Timed))
        patches.enter_context(patch.object(ledger, "record_gate", watch.timed("record", ledger.record_gate)))
        patches.enter_context(patch.object(gate, "judge", watch.timed(f"{RULE}the verdict of all", gate.judge)))
        for name in [name for name in vars(gates) if name.endswith("_rule")]:
            told = f"{RULE}{name.removesuffix('_rule').replace('_', ' ')}"
            patches.enter_context(patch.object(gates, name, watch.timed(told, getattr(gates, name))))
        yield


def claim_of(rounds: dict[str, list[Times]], version: DatasetVersion) -> Claim:
    everything = [times for kind in rounds.values() for times in kind]
    statistics = [seconds_of(times, lambda part: part in STATISTICS or part.startswith(RULE)) for times in everything]
    rules = [seconds_of(times, lambda part: part.startswith(RULE)) for times in everything]
    figures: Figures = {
        "frozen_images": version.counts["frozen"],
        "rounds_of_each": len(next(iter(rounds.values()))),
        "statistics_seconds_at_most": short(max(statistics)),
        "rules_seconds_at_most": short(max(rules)),
    }
    for kind, times in rounds.items():
        seconds, name = [each["in all"][0] for each in times], kind.replace(" ", "_")
        figures[f"seconds_{name}"] = {
            "value": round(median(seconds), 1),
            "low": round(min(seconds), 1),
            "high": round(max(seconds), 1),
        }
        figures[f"cpu_seconds_{name}"] = round(median(each["in all"][1] for each in times), 1)
        figures[f"parts_{name}"] = table(
            [{part: took for part, took in each.items() if RULE not in part} for each in times]
        )
    figures["rules"] = table(
        [{part.removeprefix(RULE): took for part, took in each.items() if RULE in part} for each in everything]
    )
    return Claim(
        name="gate_cost",
        claim=f"The statistics of a gate on {version.counts['frozen']:,} frozen images, from both models' answers to "
        "the verdict, take less than a second; nearly all of a gate's time goes into corrupted images and timing.",
        command="make bench NAME=gate_cost SOURCE=<CIFAR-10 as JPEG>",
        figures=figures,
        holds=max(statistics) < MOST_SECONDS_OF_STATISTICS,
    )


def seconds_of(times: Times, chosen: Callable[[str], bool]) -> float:
    return sum(wall for part, (wall, _) in times.items() if chosen(part))


def short(seconds: float) -> float:
    """Two digits."""
    return float(f"{seconds:.2g}")


def table(times: list[Times]) -> dict[str, float]:
    """The dearest part first."""
    by_part = {part: [each[part] for each in times] for part in times[0]}
    cells: dict[str, float] = {}
    for part, found in sorted(by_part.items(), key=lambda item: -median(wall for wall, _ in item[1])):
        walls = [wall for wall, _ in found]
        cells[f"{part} | seconds"] = short(median(walls))
        cells[f"{part} | least"] = short(min(walls))
        cells[f"{part} | most"] = short(max(walls))
        cells[f"{part} | CPU seconds"] = short(median(cpu for _, cpu in found))
    return cells


if __name__ == "__main__":
    main()
