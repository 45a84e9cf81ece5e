"""A Bento that is served for real answers as its model; with a fault planted in what it ships, the probes say which.

Each fault is what a port of preprocessing gets wrong in practice. They are planted in the files that the Bento ships or
in the model of BentoML's store, never in this process.
"""

import dataclasses
import math
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from flywheel.data.decode import decode
from flywheel.identity import digest_of_file
from flywheel.model.inference import load_model
from flywheel.paths import Paths
from flywheel.records import PackagedBento, Parity, ProbeResult, TrainedModel, from_json, to_json
from flywheel.runtime import record as runtime
from flywheel.runtime.export import export
from flywheel.runtime.record import Engine, Runtime
from tasks import parity
from tasks.packaging import package_model
from tasks.parity import RECORD, TOLERANCE, ParityError, measure_parity, recorded_parity
from tasks.probes import Probe, make_probes
from tasks.serving import ServingError

Fault = Callable[[PackagedBento], None]
DECODER = "src/flywheel/data/decode.py"
AS_RGB = '    return image.convert("RGB")\n'
TURNED = {f"JPEG, EXIF orientation {number}" for number in range(2, 9)}
EXIF = TURNED | {"PNG, EXIF orientation 6"}
JPEGS = TURNED | {"original 2", "JPEG", "progressive JPEG 4:4:4"}  # that simplejpeg reads, and that are not gray
OF_THE_MODELS_SIZE = {"original 1", "original 2", "original 3", "32 × 32"}
ALL = {
    *(OF_THE_MODELS_SIZE | EXIF | JPEGS),
    *("PNG", "WebP without loss", "TIFF", "BMP", "RGBA PNG", "palette PNG", "palette PNG, one clear"),
    *("gray PNG", "gray PNG of 16 bits", "gray PNG with alpha", "gray JPEG", "CMYK JPEG"),
    *("47 × 31", "31 × 47", "500 × 333", "13 × 17", "200 × 3"),
}


def file_of(pixels: np.ndarray, kind: str) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def probes() -> tuple[Probe, ...]:
    """Of scans at the model's own size, two of them gray: the forms alone must show the faults."""
    scans = [(image * 15.9375).astype(np.uint8) for image in load_digits().images[:3]]
    images = [np.asarray(Image.fromarray(scan).resize((32, 32), Image.Resampling.BICUBIC)) for scan in scans]
    coloured = np.dstack([images[1], images[1] // 2, 255 - images[1]])
    files = [file_of(images[0], "PNG"), file_of(coloured, "JPEG"), file_of(images[2], "PNG")]
    return make_probes([(data, decode(data)) for data in files])


@pytest.fixture(scope="session")
def honest(bento: PackagedBento, trained_model: TrainedModel, probes: tuple[Probe, ...]) -> Parity:
    return measure_parity(bento, trained_model, probes)


def test_the_served_bento_gives_the_trained_models_logits(honest: Parity, probes: tuple[Probe, ...]) -> None:
    assert honest.passed, honest.summary
    assert [probe.name for probe in honest.probes] == [probe.name for probe in probes]
    assert honest.largest is not None
    assert honest.largest < TOLERANCE / 10, "float32 sums in another order, and no more"
    assert re.fullmatch(r"31 of 31 probes within [\de.-]+ of the model in process\.", honest.summary)


def test_a_record_that_passed_stands_until_a_file_or_a_probe_changes(
    honest: Parity,
    bento: PackagedBento,
    trained_model: TrainedModel,
    probes: tuple[Probe, ...],
    paths: Paths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class ServedAgainError(Exception):
        pass

    def again(*_: object) -> None:
        raise ServedAgainError

    monkeypatch.setattr(parity, "served", again)
    assert measure_parity(bento, trained_model, probes) == honest
    assert package_model(trained_model, None, paths).smoke_test == honest.summary
    copy = copied(bento, tmp_path)
    assert measure_parity(copy, trained_model, probes) == honest, "a Bento is its files, wherever they lie"
    with pytest.raises(ServedAgainError):
        measure_parity(bento, trained_model, probes[:-1])
    with pytest.raises(ServedAgainError):
        measure_parity(bento, dataclasses.replace(trained_model, weights_sha256="0" * 64), probes)
    failed = dataclasses.replace(honest, problem="It was ill that day.")
    (copy.folder / RECORD).write_text(to_json(failed))
    with pytest.raises(ServedAgainError):
        measure_parity(copy, trained_model, probes)
    (copy.folder / RECORD).write_text(to_json(honest))
    edit(copy, "src/flywheel/identity.py", "NAME_DIGITS = 12", "NAME_DIGITS = 12 ")
    with pytest.raises(ServedAgainError):
        measure_parity(copy, trained_model, probes)


def copied(bento: PackagedBento, folder: Path) -> PackagedBento:
    """The Bento in a store of its own, to be spoilt."""
    store = bento.folder.parents[2]
    for kind in ("bentos", "models"):
        shutil.copytree(store / kind, folder / kind)
    return dataclasses.replace(bento, folder=folder / bento.folder.relative_to(store))


def edit(bento: PackagedBento, file: str, old: str, new: str) -> None:
    path = bento.folder / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def stored_model(bento: PackagedBento) -> Path:
    return bento.folder.parents[2] / "models" / bento.model_tag.replace(":", "/")


def swap_mean_and_deviation(bento: PackagedBento) -> None:
    manifest = stored_model(bento) / "model.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"mean"', '"was mean"').replace('"std"', '"mean"').replace('"was mean"', '"std"'))
    folder = stored_model(bento) / runtime.FOLDER
    chosen = from_json(Runtime, (folder / runtime.RECORD).read_bytes())
    if chosen.engine is Engine.ONNX:  # it stands in the graph
        export(load_model(stored_model(bento)), folder / runtime.GRAPH)
        again = dataclasses.replace(chosen, graph_sha256=digest_of_file(folder / runtime.GRAPH))
        (folder / runtime.RECORD).write_text(to_json(again))


def read_blue_first(bento: PackagedBento) -> None:
    edit(bento, DECODER, 'decode_jpeg(data, colorspace="RGB")', 'decode_jpeg(data, colorspace="BGR")')


def resize_by_another_filter(bento: PackagedBento) -> None:
    edit(bento, DECODER, '"bicubic": Image.Resampling.BICUBIC', '"bicubic": Image.Resampling["BILINEAR"]')


def ignore_orientation(bento: PackagedBento) -> None:
    edit(bento, DECODER, "turn = TURNED.get(orientation)", "turn = None")


def end_on_gray(bento: PackagedBento) -> None:
    edit(bento, DECODER, AS_RGB, f'    if image.mode == "L":\n        __import__("os")._exit(3)\n{AS_RGB}')


def damage_the_weights(bento: PackagedBento) -> None:
    weights = stored_model(bento) / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


FAULTS = (
    swap_mean_and_deviation,
    read_blue_first,
    resize_by_another_filter,
    ignore_orientation,
    end_on_gray,
    damage_the_weights,
)


@pytest.fixture(scope="module")
def found(
    honest: Parity,
    bento: PackagedBento,
    trained_model: TrainedModel,
    probes: tuple[Probe, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[Fault, Parity]:
    """What is measured of a Bento with each fault; two are served at a time, which halves the wait."""

    def measured(plant: Fault) -> Parity:
        spoilt = copied(bento, tmp_path_factory.mktemp(plant.__name__))
        plant(spoilt)
        parity = measure_parity(spoilt, trained_model, probes)
        assert recorded_parity(spoilt.folder) == parity
        return parity

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(FAULTS, pool.map(measured, FAULTS), strict=True))


def test_a_model_that_answers_its_own_samples_otherwise_is_not_served(found: dict[Fault, Parity]) -> None:
    record = found[swap_mean_and_deviation]
    assert not record.passed
    assert "stored samples are" in record.problem


@pytest.mark.parametrize(
    ("plant", "failed", "smallest"),
    [
        (read_blue_first, JPEGS, 0.3),
        (resize_by_another_filter, ALL - OF_THE_MODELS_SIZE, 0.01),
        (ignore_orientation, EXIF, 0.5),
    ],
)
def test_a_planted_fault_fails_the_probes_that_it_touches_and_no_other(
    found: dict[Fault, Parity], honest: Parity, plant: Fault, failed: set[str], smallest: float
) -> None:
    record = found[plant]
    assert not record.passed
    assert {probe.name for probe in record.failed} == failed
    apart = [probe.difference for probe in record.failed if probe.difference is not None]
    assert len(apart) == len(failed)
    assert min(apart) > smallest
    rest = [probe.difference for probe in record.probes if probe.name not in failed]
    assert all(difference is not None and difference < TOLERANCE / 10 for difference in rest)
    assert record.summary.startswith(f"{len(failed)} of 31 probes are not within 0.001 of the model in process: ")


def test_a_bento_that_crashes_or_does_not_start_has_a_record_that_fails(found: dict[Fault, Parity]) -> None:
    crashed, unstarted = found[end_on_gray], found[damage_the_weights]
    for record in (crashed, unstarted):
        assert not record.passed
        assert record.summary.startswith("The Bento could not be compared: classifier:")
    assert "no answer from the served Bento" in crashed.problem
    assert "its worker can't start" in unstarted.problem
    assert "weights.safetensors: SHA-256" in unstarted.problem


def answered(**changed: Any) -> dict[str, Any]:
    logits = {"a": math.log(3), "b": 0.0}
    scores = [{"label": "a", "confidence": 0.75}, {"label": "b", "confidence": 0.25}]
    return {"model_id": "model-1", "label": "a", "confidence": 0.75, "top_k": scores, "logits": logits, **changed}


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (answered(), ""),
        (answered(model_id="model-2"), "model-1 expected to answer, model-2 did"),
        (answered(logits={"a": 1.0}), "the classes a, b expected, a answered"),
        (answered(logits={"a": 1.0, "c": 1.0}), "the classes a, b expected, a, c answered"),
        (answered(top_k=answered()["top_k"][:1]), "the classes a, b expected"),
        (answered(logits={"a": math.nan, "b": 0.0}), "a logit is not a number"),
        (answered(logits={"a": math.inf, "b": 0.0}), "a logit is not a number"),
        (answered(logits={"a": None, "b": 0.0}), "logits expected"),
        (answered(logits={"a": math.log(2), "b": 0.0}), "its label and confidences are not those of its logits"),
        (answered(label="b"), "its label and confidences are not those of its logits"),
        (
            {"error": {"code": "overloaded", "message": "Full.", "hint": ""}},
            "logits expected, overloaded (Full.) found",
        ),
        ("502 Bad\nGateway", "logits expected, 502 Bad Gateway found"),
        (None, "logits expected, None found"),
        ([], "logits expected, [] found"),
    ],
)
def test_an_answer_that_is_not_the_models_is_a_problem(trained_model: TrainedModel, answer: Any, problem: str) -> None:
    model = dataclasses.replace(trained_model, id="model-1", classes=("a", "b"))
    difference, said = parity._compared(answer, model, {"a": math.log(3) + 0.25, "b": 0.0})
    assert said.startswith(problem) if problem else said == ""
    assert difference == (None if problem else pytest.approx(0.25))


def test_both_answers_to_a_probe_must_agree_with_the_model() -> None:
    good, far, bad, lost = (1e-6, ""), (0.5, ""), (None, "it was ill"), (None, "it was lost")
    assert parity._result("PNG", good, far) == parity._result("PNG", far, good) == ProbeResult("PNG", 0.5)
    assert parity._result("PNG", good, bad) == ProbeResult("PNG", None, "in a batch: it was ill")
    assert parity._result("PNG", bad, bad) == ProbeResult("PNG", None, "it was ill")
    assert parity._result("PNG", bad, lost) == ProbeResult("PNG", None, "alone: it was ill; in a batch: it was lost")


@pytest.mark.parametrize(
    "probe",
    [ProbeResult("a", None, "lost"), ProbeResult("a", None), ProbeResult("a", math.nan), ProbeResult("a", 2e-3)],
)
def test_one_bad_probe_fails_all_and_none_is_no_pass(honest: Parity, probe: ProbeResult) -> None:
    assert not dataclasses.replace(honest, probes=(*honest.probes, probe)).passed
    assert not dataclasses.replace(honest, probes=()).passed
    assert "sent no probe" in dataclasses.replace(honest, probes=()).summary
    assert not dataclasses.replace(honest, problem="It is gone.").passed
    assert "probes are not within" in dataclasses.replace(honest, probes=(*honest.probes, probe)).summary


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"null", b"[]", b"{}"])
def test_an_unreadable_record_counts_as_none(tmp_path: Path, content: bytes) -> None:
    assert recorded_parity(tmp_path) is None
    (tmp_path / RECORD).write_bytes(content)
    assert recorded_parity(tmp_path) is None


def test_where_nothing_can_be_said_there_is_no_record(
    bento: PackagedBento, trained_model: TrainedModel, probes: tuple[Probe, ...], tmp_path: Path
) -> None:
    with pytest.raises(ParityError, match="at least one probe expected"):
        measure_parity(bento, trained_model, ())
    with pytest.raises(ParityError, match="Package it again"):
        measure_parity(dataclasses.replace(bento, folder=tmp_path / "gone"), trained_model, probes)


def test_a_service_that_takes_too_long_for_all_is_given_up(
    trained_model: TrainedModel, probes: tuple[Probe, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "ASKING_SECONDS", -1.0)
    slow = httpx.Client(base_url="http://service", transport=httpx.MockTransport(lambda _: httpx.Response(500)))
    with slow, pytest.raises(ServingError, match="31 probes answered within"):
        list(parity._results(slow, trained_model, probes, [{}] * len(probes)))
