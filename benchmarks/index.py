"""What an index costs: flywheel's, against a loop of Pillow and pandas and against `datasets`, on the same files.

Each arm is a process of its own, started afresh with an empty home for every repetition, and pays for its imports; what
is counted is CPU seconds of the process and its children. The three take turns, beginning with another one each time.
flywheel decodes strictly, hashes the pixels, measures seven statistics and takes a near-duplicate descriptor. The loop
hashes the file and measures six; `datasets` only loads the folder and decodes. So both peers do less.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS, python_of
from benchmarks.results import Claim, Figures, write_result

ROOT = Path(__file__).resolve().parent.parent
LONGEST_SECONDS = 1200.0
LIMIT_CPU_SECONDS = 20.0  # for 60,000 small JPEGs
LIMIT_IMAGES = 60_000
Command = Callable[[Path], list[str]]
INDEX = """
import json, sys
from pathlib import Path
from flywheel.data.index import build_index, read_index
from flywheel.data.sources import fetch_source
from flywheel.settings import Settings

settings = Settings(home=Path(sys.argv[2]))
index = build_index(fetch_source(sys.argv[1], settings), settings.paths)
rows = read_index(index).query("decode_ok")
print(json.dumps({"images": len(rows), "pixels": int((rows.width * rows.height).sum()), "red": float(rows.red.mean())}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", "--SOURCE", required=True, type=Path, help="a folder of class folders")
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    arms = commands(given.source.resolve())
    read_once(given.source)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    found: list[dict[str, Any]] = []
    for repetition in range(given.repetitions):
        for name in rotated(list(arms), repetition):
            used, said = measure(arms[name])
            seconds[name].append(used)
            found.append(said)
            print(f"{repetition + 1}: {name:<16} {used:6.1f} CPU-s  {said}", flush=True)
    demand_the_same(found)
    write_result(claim_of(seconds, found[0]["images"]))


def commands(source: Path) -> dict[str, Command]:
    """What runs each arm in an empty folder. A peer that can't be installed raises PeerError here."""
    loop, datasets = str(python_of("pil-pandas")), str(python_of("datasets"))
    return {
        "flywheel": lambda home: [sys.executable, "-c", INDEX, str(source), str(home)],
        "pil_pandas": lambda home: [loop, str(PEERS / "pil_pandas.py"), str(source), str(home / "index.parquet")],
        "datasets": lambda home: [datasets, str(PEERS / "datasets_imagefolder.py"), str(source), str(home / "cache")],
    }


def read_once(folder: Path) -> None:
    """So that nobody pays for the disk: all files are in the system's cache."""
    for file in folder.rglob("*"):
        if file.is_file():
            file.read_bytes()


def rotated(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]


def measure(command: Command) -> tuple[float, dict[str, Any]]:
    """CPU seconds of the process and its children, and what it says it found."""
    with tempfile.TemporaryDirectory(prefix="flywheel-index-") as home:
        environment = {**os.environ, "HF_HOME": home, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        before = child_seconds()
        done = subprocess.run(
            command(Path(home)),
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
        used = child_seconds() - before
    if done.returncode:
        raise SystemExit(f"{' '.join(done.args[:2])} ended with exit code {done.returncode}.\n{done.stderr}")
    return used, json.loads(done.stdout.splitlines()[-1])


def child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def demand_the_same(found: list[dict[str, Any]]) -> None:
    """All saw the same images; those that measured them, the same red."""
    sizes = {(said["images"], said["pixels"]) for said in found}
    reds = [said["red"] for said in found if "red" in said]
    if len(sizes) != 1 or max(reds) - min(reds) > 1e-4:
        raise SystemExit(f"The arms did not see the same images: {found}")


def claim_of(seconds: dict[str, list[float]], images: int) -> Claim:
    """Ratios are of CPU seconds in one repetition, the peer's over flywheel's; low and high are the extremes."""
    figures: Figures = {"images": images, "repetitions": len(seconds["flywheel"])}
    for name, values in seconds.items():
        figures[f"{name}_cpu_seconds"] = spread(values)
    loop = [peer / ours for peer, ours in zip(seconds["pil_pandas"], seconds["flywheel"], strict=True)]
    loaded = [peer / ours for peer, ours in zip(seconds["datasets"], seconds["flywheel"], strict=True)]
    figures[f"cpu_seconds_{images // 1000}k"] = round(statistics.median(seconds["flywheel"]), 2)
    figures["ratio_to_naive"] = spread(loop)
    figures["ratio_to_datasets"] = spread(loaded)
    limit = LIMIT_CPU_SECONDS * max(images / LIMIT_IMAGES, 1.0)
    return Claim(
        name="index",
        claim="An index of 60,000 small JPEGs costs at most 20 CPU seconds, and less than a loop of Pillow and pandas "
        "or than `datasets`, which both do less.",
        command="make bench NAME=index SOURCE=<CIFAR-10 as JPEG>",
        figures=figures,
        holds=min(loop) > 1 and min(loaded) > 1 and statistics.median(seconds["flywheel"]) <= limit,
    )


def spread(values: list[float]) -> dict[str, float]:
    return {
        "value": round(statistics.median(values), 2),
        "low": round(min(values), 2),
        "high": round(max(values), 2),
    }


if __name__ == "__main__":
    main()
