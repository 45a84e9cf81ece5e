"""How many labels until an audit tells, and how often it tells wrongly? Simulated: answers are right or wrong by a
known accuracy, the reference is drawn anew each time, and the audit is asked after every label.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from benchmarks.results import Claim, Figures, table_of, write_result
from flywheel.evaluation.statistics import wilson
from flywheel.monitoring.audit import LEVEL, Finding, audit
from flywheel.policies import DiagnosisPolicy

ACCURACY = 0.8  # on the reference
REFERENCES = (1_000, 5_000)
LOST = (0.0, 0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3)
MOST = 2_000
REPETITIONS = 400


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    line = DiagnosisPolicy().largest_loss
    rows: dict[str, dict[str, float | None]] = {}
    wrong: list[float] = []
    for images in REFERENCES:
        for lost in LOST:
            told = list(audits(images, lost, line))
            harmful = float(np.mean([finding is Finding.HARMFUL for finding, _ in told]))
            harmless = float(np.mean([finding is Finding.HARMLESS for finding, _ in told]))
            rows[f"{images:,} | {100 * lost:g}"] = {
                "told harmful": harmful,
                "told harmless": harmless,
                "median labels": None if harmful + harmless < 0.5 else float(np.median([labels for _, labels in told])),
            }
            wrong += [harmful] if lost <= line else []
            wrong += [harmless] if lost >= line else []
            print(images, lost, rows[f"{images:,} | {100 * lost:g}"], flush=True)
    head: Figures = {"largest_wrong": max(wrong), "level": LEVEL, "repetitions": REPETITIONS}
    write_result(
        Claim(
            name="label_audit",
            claim=f"Asked after each of {MOST:,} labels, an audit tells wrongly in {LEVEL:.0%} of lives or fewer.",
            command="make bench NAME=label_audit",
            figures={**head, "audits": table_of(rows)},
            holds=max(wrong) <= LEVEL,
        )
    )


def audits(images: int, lost: float, line: float) -> Iterator[tuple[Finding, int]]:
    random = np.random.default_rng(0)
    for _ in range(REPETITIONS):
        reference = wilson(int(random.binomial(images, ACCURACY)), images)
        right = np.cumsum(random.random(MOST) < ACCURACY - lost)
        for labels in range(1, MOST + 1):
            finding = audit(int(right[labels - 1]), labels, reference, line).finding
            if finding is not Finding.OPEN:
                break
        yield finding, labels


if __name__ == "__main__":
    main()
