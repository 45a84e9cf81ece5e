"""Is an evaluation image found among the training images, however it was saved? On CIFAR-10's own pairs and on copies.

Its own: which test images have a near duplicate in the training split, as a share, beside what ciFAIR (Barz and Denzler
2020, "Do we train on test data?") counts by features of a network and by eye. Planted: copies of test images, of four
kinds, indexed like any other file; and versions with one such copy among the training images, which the leak check must
refuse. SOURCE names CIFAR-10 as folders train/ and test/: the lossless copy, in which files are planted, and by ':'
between, other copies of which the share is measured too.
"""

import argparse
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from benchmarks.results import Claim, Figures, write_result
from flywheel.data.decode import decode
from flywheel.data.duplicates import Pairs, near_duplicates
from flywheel.data.folders import write_json
from flywheel.data.index import DESCRIPTOR, build_index, read_index, unpack_descriptors
from flywheel.data.sources import fetch_source
from flywheel.data.versions import MANIFEST, ROW_SCHEMA, ROWS, build_version
from flywheel.evaluation.leakage import LeakCheck, check_leaks
from flywheel.evaluation.statistics import wilson
from flywheel.identity import digest_of_file, name_of
from flywheel.model.folder import MANIFEST as MODEL_MANIFEST
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, ImageIndex, Side
from flywheel.settings import DataParameters, Settings, keep_tools_at_home

CIFAIR_SHARE = 0.033  # of the test images: Barz and Denzler 2020, table 1
PLANTED = 200  # test images, each in all four kinds
SPOILT = 5  # versions a kind
LEAST_FOUND = 0.99  # of a kind of copy
ALIKE = 0.90  # a correlation at which most pairs of photographs still show the same picture
SHEET = Path(__file__).resolve().parent.parent / "docs" / "images" / "leaks.png"
SHOWN, SIDE, GAP = 10, 64, 4  # pairs a line; pixels, whole ones of an image, which PNG packs well
Pixels = NDArray[np.uint8]


def saved(pixels: Pixels, kind: str = "PNG", **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


KINDS: dict[str, Callable[[Pixels], bytes]] = {
    "exact": saved,
    "jpeg_75": lambda pixels: saved(pixels, "JPEG", quality=75),
    "brighter": lambda pixels: saved(np.clip(pixels * 1.1, 0, 255).astype(np.uint8)),
    "resized": lambda pixels: saved(np.asarray(Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC))),
}


@dataclass(frozen=True)
class Split:
    """One split of a copy of CIFAR-10."""

    rows: pd.DataFrame
    descriptors: NDArray[np.int16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", "--SOURCE", required=True, help="CIFAR-10 as class folders; several by ':' between")
    sources = parser.parse_args().source.split(":")
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="flywheel-leaks-") as home:
        settings = Settings(home=Path(home), database_url="")
        keep_tools_at_home(settings)
        for number, source in enumerate(sources):
            index = build_index(fetch_source(source, settings), settings.paths)
            test, train = split_of(index, "test"), split_of(index, "train")
            kind = test.rows["path"].str.rpartition(".")[2].mode().iloc[0].lower()
            pairs, measured = own_pairs(test, train)
            if number == 0:
                draw(index.source.folder, test, train, pairs)
                figures |= {"test_images": len(test.rows), "training_images": len(train.rows)}
                figures |= {"near_duplicates_share": measured["near_duplicates_share"], "cifair_share": CIFAIR_SHARE}
                figures |= planted(index, settings, Path(home, "planted"))
            figures |= {f"{name}_{kind}": value for name, value in measured.items()}
    write_result(claim_of(figures))


def split_of(index: ImageIndex, split: str) -> Split:
    frame = read_index(index, with_descriptors=True)
    rows = frame[(frame["split"] == split) & frame["decode_ok"]].reset_index(drop=True)
    return Split(rows, unpack_descriptors(rows[DESCRIPTOR]))


def own_pairs(test: Split, train: Split) -> tuple[Pairs, Figures]:
    """How many test images have a near duplicate in the training split, and how often both have the same label."""
    started = time.process_time()
    pairs = near_duplicates(test.descriptors, train.descriptors)
    seconds = time.process_time() - started
    found = np.unique(pairs.first)
    nearest, similarity = most_similar(test, train)
    alike = np.setdiff1d(np.flatnonzero(similarity >= ALIKE), found)
    print(f"{len(found)} of {len(test.rows):,} test images, {len(pairs)} pairs, {seconds:.1f} CPU seconds", flush=True)
    return pairs, {
        "near_duplicates": len(found),
        "near_duplicates_share": round(len(found) / len(test.rows), 4),
        "same_pixels": int(test.rows["image_id"].isin(set(train.rows["image_id"])).sum()),
        "pairs": len(pairs),
        "pairs_of_one_label": one_label(test, train, pairs.first, pairs.second),
        "alike_not_found": len(alike),
        "alike_not_found_of_one_label": one_label(test, train, alike, nearest[alike]),
        "cpu_seconds": round(seconds, 1),
    }


def most_similar(test: Split, train: Split) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each test image the training image whose descriptor correlates most, and how much."""
    one, other = (split.descriptors.astype(np.float32) for split in (test, train))
    one, other = (shape / np.maximum(np.linalg.norm(shape, axis=1, keepdims=True), 1) for shape in (one, other))
    nearest = np.concatenate([(one[top : top + 500] @ other.T).argmax(1) for top in range(0, len(one), 500)])
    return nearest, (one.astype(np.float64) * other[nearest]).sum(1)


def one_label(test: Split, train: Split, first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """The share of pairs under one label, of which chance would give a tenth."""
    same = test.rows["label"].to_numpy()[first] == train.rows["label"].to_numpy()[second]
    return round(float(same.mean()), 3) if len(same) else 0.0


def planted(index: ImageIndex, settings: Settings, folder: Path) -> Figures:
    """Copies of test images that stay in the frozen side, found alone, and refused inside a version."""
    version = build_version(index, (), DataParameters(source=index.source.name, subset=None), settings.paths)
    print(f"{version.id}: {version.counts}", flush=True)
    rows = pq.read_table(version.folder / ROWS).to_pandas()
    frozen = rows[rows["side"] == Side.FROZEN]
    chosen = frozen.iloc[np.random.default_rng(0).choice(len(frozen), PLANTED, replace=False)]
    copies = plant(chosen, index.source.folder, settings, folder)
    figures = found_copies(copies, chosen)
    return figures | refused(version, copies, settings.paths)


def plant(chosen: pd.DataFrame, source: Path, settings: Settings, folder: Path) -> pd.DataFrame:
    """One row a planted file, indexed like any other; `kind` and `of`, the image id it is a copy of."""
    of: dict[str, tuple[str, str]] = {}
    for path, label, image_id in zip(chosen["path"], chosen["label"], chosen["image_id"], strict=True):
        pixels = decode((source / path).read_bytes())
        for kind, make in KINDS.items():
            name = f"{label}/{Path(path).stem}-{kind}.{'jpg' if 'jpeg' in kind else 'png'}"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(make(pixels))
            of[name] = (kind, image_id)
    rows = read_index(build_index(fetch_source(str(folder), settings), settings.paths), with_descriptors=True)
    return rows.assign(kind=[of[path][0] for path in rows["path"]], of=[of[path][1] for path in rows["path"]])


def found_copies(copies: pd.DataFrame, chosen: pd.DataFrame) -> Figures:
    """By kind, the share of copies that are found to be of the very image that they were made of."""
    figures: Figures = {}
    own = wrong = 0
    for kind, rows in copies.groupby("kind", sort=False):
        pairs = near_duplicates(unpack_descriptors(chosen[DESCRIPTOR]), unpack_descriptors(rows[DESCRIPTOR]))
        right = chosen["image_id"].to_numpy()[pairs.first] == rows["of"].to_numpy()[pairs.second]
        own, wrong = own + int(right.sum()), wrong + int((~right).sum())
        interval = wilson(int(right.sum()), len(rows))
        figures[f"planted_found_{kind}"] = {
            "value": round(interval.value, 4),
            "low": round(interval.low, 4),
            "high": round(interval.high, 4),
        }
    return {"planted": len(copies), "planted_found": round(own / len(copies), 4), "planted_wrong": wrong} | figures


def refused(version: DatasetVersion, copies: pd.DataFrame, paths: Paths) -> Figures:
    """Versions with one copy on the training side, each checked as a champion's; and the version as it was made."""
    seconds = []
    for _ in range(2):
        started = time.process_time()
        honest = check(version, version, paths)
        seconds.append(time.process_time() - started)
    told: list[bool] = []
    named: list[bool] = []
    for kind, rows in copies.groupby("kind", sort=False):
        for number in range(SPOILT):
            copy = rows.iloc[number * len(rows) // SPOILT]
            found = check(version, with_copy(version, copy, paths), paths)
            pairs = [(pair.evaluation_image, pair.learned_path) for pair in found.models[0].leaks.pairs]
            told.append(not found.passed and not found.problems)
            named.append(pairs == [(copy["of"], copy["path"])])
            print(f"{kind}: {found.summary}", flush=True)
    return {
        "versions_with_one_copy": len(told),
        "planted_refused": round(float(np.mean(told)), 4),
        "planted_named": round(float(np.mean(named)), 4),
        "clean_passed": int(honest.passed),
        "check_cpu_seconds": round(seconds[0], 1),
        "check_cpu_seconds_when_kept": round(seconds[1], 2),
    }


def with_copy(version: DatasetVersion, copy: "pd.Series[Any]", paths: Paths) -> DatasetVersion:
    """The version with the copy on its training side, in its table and manifest, which are what the check reads."""
    name = name_of("ds", [version.id, copy["path"]])
    folder = paths.dataset(name)
    shutil.copytree(version.folder, folder, copy_function=os.link, ignore=shutil.ignore_patterns("leaks-*"))
    added = {field: [copy[field]] for field in ROW_SCHEMA.names if field != "side"} | {"side": [str(Side.TRAIN)]}
    row = pa.Table.from_pydict(added, ROW_SCHEMA)
    table = pa.concat_tables([pq.read_table(folder / ROWS), row])
    (folder / ROWS).unlink()  # the link, not the version's own file
    pq.write_table(table, folder / ROWS)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["id"] = name
    manifest["files"][ROWS] = {"bytes": (folder / ROWS).stat().st_size, "sha256": digest_of_file(folder / ROWS)}
    (folder / MANIFEST).unlink()
    write_json(folder / MANIFEST, manifest)
    return replace(version, id=name, folder=folder)


def check(evaluation: DatasetVersion, learned: DatasetVersion, paths: Paths) -> LeakCheck:
    """As the gate asks, of a model that learned from a version. Its manifest is all of the model that is read."""
    name = learned.id.replace("ds-", "model-")
    folder = paths.model(name)
    if not folder.is_dir():
        folder.mkdir(parents=True)
        manifest = {"model": {"dataset_id": learned.id}, "files": {}, "training": {"initial_weights": None}}
        write_json(folder / MODEL_MANIFEST, manifest)
    return check_leaks(evaluation, [name], paths)


def draw(folder: Path, test: Split, train: Split, pairs: Pairs) -> None:
    """Pairs one above the other: those found that are least alike, and below them the most alike not found."""
    nearest, similarity = most_similar(test, train)
    found = np.unique(pairs.first)
    least = found[np.argsort(similarity[found])][:SHOWN]
    missed = np.setdiff1d(np.arange(len(nearest)), found)
    most = missed[np.argsort(-similarity[missed])][:SHOWN]
    step = SIDE + GAP
    sheet = Image.new("RGB", (SHOWN * step - GAP, 4 * step + 2 * GAP), "white")
    for block, tests in enumerate((least, most)):
        for column, first in enumerate(tests):
            for row, path in enumerate((test.rows["path"][first], train.rows["path"][nearest[first]])):
                image = Image.fromarray(decode((folder / path).read_bytes())).resize(
                    (SIDE, SIDE), Image.Resampling.NEAREST
                )
                sheet.paste(image, (column * step, (2 * block + row) * step + 3 * GAP * block))
    sheet.save(SHEET, optimize=True)


def claim_of(figures: Figures) -> Claim:
    kinds = [figures[f"planted_found_{kind}"] for kind in KINDS]
    everywhere = all(isinstance(found, dict) and found["value"] >= LEAST_FOUND for found in kinds)
    exact = figures["planted_found_exact"]
    return Claim(
        name="gate_leakage",
        claim="Every training side with one copy of an evaluation image is refused and the copy named. Of planted "
        f"copies all exact ones are found, {LEAST_FOUND:.0%} of each other kind, and none for another image. Of "
        "CIFAR-10's own pairs fewer are found than ciFAIR counts: the same picture, not other views.",
        command="make bench NAME=gate_leakage SOURCE=<CIFAR-10 without loss>:<CIFAR-10 as JPEG>",
        figures=figures,
        holds=everywhere
        and isinstance(exact, dict)
        and exact["value"] == 1
        and figures["planted_wrong"] == 0
        and figures["planted_refused"] == figures["planted_named"] == figures["clean_passed"] == 1
        and 0 < float(str(figures["near_duplicates_share"])) < CIFAIR_SHARE,
    )


if __name__ == "__main__":
    main()
