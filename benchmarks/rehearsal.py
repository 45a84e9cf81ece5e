"""The whole loop, several times: `make rehearse` on the home of `FLYWHEEL_HOME`, each time with other images.

Each run is the command that a user types; what it saw is read from the record that it leaves.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import Claim, Figures, table_of, write_result
from flywheel.settings import PROJECT, Settings

LONGEST_SECONDS = 1200
MOST_MINUTES = 10.0  # once `make up` runs and a champion stands
SHOWN = (
    "minutes",
    "images_until_alarm",
    "minutes_to_heal",
    "accuracy_before",
    "accuracy_under_drift",
    "accuracy_after",
    "requests",
    "failed_requests",
    "false_alarms",
    "promoted",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scenario", default="mix")
    given = parser.parse_args()
    found = {str(seed): rehearsed(given.scenario, seed) for seed in range(given.seeds)}
    played = list(found.values())

    def of(name: str) -> list[float]:
        return [each[name] for each in played if each[name] is not None]

    figures: Figures = {
        "seeds": given.seeds,
        "healed": sum(each["promoted"] for each in played),
        "failed_requests": int(sum(of("failed_requests"))),
        "false_alarms": int(sum(of("false_alarms"))),
        "requests": int(sum(of("requests"))),
        **{f"{name}_median": round(median(of(name)), 4) for name in SHOWN[:6] if of(name)},
        "minutes_most": round(max(of("minutes")), 2),
        "runs": table_of({f"seed {seed}": {name: each[name] for name in SHOWN} for seed, each in found.items()}),
    }
    write_result(
        Claim(
            name="rehearsal",
            claim=f"Noise and blur in live traffic are noticed, labelled, learned and healed in {MOST_MINUTES:g} "
            "minutes, without a failed request or a false alarm.",
            command="make bench NAME=rehearsal",
            figures=figures,
            holds=figures["healed"] == given.seeds
            and not figures["failed_requests"]
            and not figures["false_alarms"]
            and all(each["accuracy_after"] > each["accuracy_under_drift"] for each in played)
            and max(of("minutes")) <= MOST_MINUTES,
        )
    )


def rehearsed(scenario: str, seed: int) -> dict[str, Any]:
    """What one rehearsal saw. Raises RuntimeError where it left no record."""
    before = records()
    began = time.monotonic()
    command = [sys.executable, "-m", "flows.rehearse", "--SCENARIO", scenario, "--SEED", str(seed)]
    done = subprocess.run(command, cwd=PROJECT, timeout=LONGEST_SECONDS, check=False)
    new = sorted(records() - before)
    if not new:
        raise RuntimeError(f"seed {seed}: no record, exit code {done.returncode}. Run '{' '.join(command)}' by itself.")
    print(f"seed {seed}: {time.monotonic() - began:.0f} s, {new[-1]}", flush=True)
    return dict(json.loads(new[-1].read_text(encoding="utf-8")))


def records() -> set[Path]:
    return set((Settings().paths.reports / "rehearsals").glob("*/rehearsal.json"))


if __name__ == "__main__":
    main()
