"""Does the Bento, served, answer as the trained model does? Measured on files in the forms that clients send.

The two sides share no code in memory: the Bento runs the sources that it ships, on the model in BentoML's store, in
processes of its own; this one runs the project's sources on the trained model's folder, by the same engine. So what may
differ, and is found, is what was shipped, stored, or done by the service. What both would do wrong alike is found as
far as the probes know their pixels without `decode()` (`tasks/probes.py`).

Every probe is sent twice, alone as a body and with the others in one form, and all logits of both answers count.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from pydantic import ValidationError

from flywheel.identity import digest_of_file, digest_of_lines
from flywheel.model.folder import MANIFEST, write_atomically
from flywheel.records import PackagedBento, Parity, ProbeResult, TrainedModel, from_json, to_json
from tasks.probes import Probe, digest_of_probes
from tasks.serving import ServingError, served

log = logging.getLogger(__name__)

RECORD = "parity.json"  # in the Bento's folder, so it goes where the Bento goes
# Of a logit. float32 sums in another order moved one by 5e-5 at most, where logits went up to 56 (EfficientNet), by
# 3e-6 with the default net; the smallest planted fault, another filter to resize by, by 0.7, and with nets that were
# not even trained by 2e-3.
TOLERANCE = 1e-3
ROUNDING = 2e-6  # of a confidence, which is answered with 6 digits
READY_SECONDS = 180.0  # 7-12 s on a free machine, 30 where nothing is compiled yet
REQUEST_SECONDS = 60.0
ASKING_SECONDS = 240.0  # for all probes; together with READY_SECONDS well within the stage's timeout
BATCH = 16  # probes in one form
PROBLEM_CHARACTERS = 200
ENVIRONMENT = {
    "FLYWHEEL_SERVICE_WORKERS": "1",
    "FLYWHEEL_SERVICE_TIMEOUT": f"{REQUEST_SECONDS:.0f}",
    "OMP_NUM_THREADS": "1",
}
NOTES = ("__pycache__", RECORD)  # in a Bento's folder, and no part of it
Logits = dict[str, float]  # by class
Answer = tuple[float | None, str]  # the difference, or the problem


class ParityError(RuntimeError):
    """Nothing can be said about a Bento: it isn't there, or there is no probe to send."""


def measure_parity(bento: PackagedBento, model: TrainedModel, probes: Sequence[Probe]) -> Parity:
    """Serves the Bento, sends it the probes, and compares its logits with this process's own.

    A Bento that does not start, crashes, answers an error or nothing in time is a record too, which did not pass. The
    record is kept in the Bento's folder; one that passed is returned from there while files and probes are the same.
    Raises ParityError, or ModelError where the trained model can't be read.
    """
    if not bento.folder.is_dir() or not probes:
        raise ParityError(f"{bento.tag}: a Bento in {bento.folder} and at least one probe expected. Package it again.")
    sent, files = digest_of_probes(probes), _digest_of_files(bento, model)
    known = recorded_parity(bento.folder)
    if known and known.passed and known == replace(known, tolerance=TOLERANCE, probes_sha256=sent, served_sha256=files):
        return known
    results, problem = _ask(bento, model, probes)
    parity = Parity(bento.tag, model.id, TOLERANCE, results, sent, files, problem)
    write_atomically(bento.folder / RECORD, to_json(parity))
    log.log(logging.INFO if parity.passed else logging.WARNING, "%s: %s", bento.tag, parity.summary)
    return parity


def recorded_parity(folder: Path) -> Parity | None:
    """The record in a Bento's folder; None where there is none that can be read."""
    try:
        return from_json(Parity, (folder / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def _digest_of_files(bento: PackagedBento, model: TrainedModel) -> str:
    """All files of the Bento and of the model in its store, and what they are compared with."""
    stored = bento.folder.parents[2] / "models" / bento.model_tag.replace(":", "/")
    lines = [f"trained {model.id} {model.weights_sha256} {digest_of_file(model.folder / MANIFEST)}"]
    for folder in (bento.folder, stored):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        own = [path for path in files if not set(path.relative_to(folder).parts) & set(NOTES)]
        lines += [f"{path.relative_to(folder).as_posix()} {digest_of_file(path)}" for path in own]
    return digest_of_lines(lines)


def _ask(bento: PackagedBento, model: TrainedModel, probes: Sequence[Probe]) -> tuple[tuple[ProbeResult, ...], str]:
    """The results, and why there are none or not all."""
    expected = _in_process(model, probes)
    results: list[ProbeResult] = []
    started = time.monotonic()
    try:
        with served(bento.tag, bento.folder.parents[2], READY_SECONDS, ENVIRONMENT) as address:
            log.info("%s: ready in %.1f s", bento.tag, time.monotonic() - started)
            with httpx.Client(base_url=address, trust_env=False, timeout=REQUEST_SECONDS) as client:
                results.extend(_results(client, model, probes, expected))
    except ServingError as error:
        log.warning("%s", error)
        return tuple(results), _short(error)
    return tuple(results), ""


def _in_process(model: TrainedModel, probes: Sequence[Probe]) -> list[Logits]:
    from flywheel.runtime.running import load_running

    answers = load_running(model.folder).classify([probe.pixels for probe in probes]).logits
    return [dict(zip(model.classes, row.tolist(), strict=True)) for row in answers]


def _results(
    client: httpx.Client, model: TrainedModel, probes: Sequence[Probe], expected: Sequence[Logits]
) -> Iterator[ProbeResult]:
    """One result a probe, a form of them at a time. Raises ServingError when the time for all is over."""
    deadline = time.monotonic() + ASKING_SECONDS
    query = {"top_k": len(model.classes), "logits": True}
    for first in range(0, len(probes), BATCH):
        part = probes[first : first + BATCH]
        together = client.post("/classify_batch", params=query, files=[("images", probe.data) for probe in part])
        for place, probe in enumerate(part):
            if time.monotonic() > deadline:
                raise ServingError(f"{len(probes)} probes answered within {ASKING_SECONDS:.0f} s expected.")
            kind = {"content-type": "application/octet-stream"}
            alone = client.post("/classify", params=query, content=probe.data, headers=kind)
            wanted = expected[first + place]
            answers = [_compared(answer, model, wanted) for answer in (_body(alone), _place(together, place))]
            yield _result(probe.name, *answers)


def _body(response: httpx.Response) -> Any:
    """The JSON that was answered; where there is none, the text."""
    try:
        return response.json()
    except ValueError:
        return f"{response.status_code} {response.text}"


def _place(response: httpx.Response, place: int) -> Any:
    """One answer of a batch; what was answered instead, where it is no batch."""
    body = _body(response)
    try:
        return body["results"][place]
    except (TypeError, LookupError):
        return body


def _compared(answer: Any, model: TrainedModel, expected: Logits) -> Answer:
    """The largest difference of a logit; a problem where it is no whole answer of this model."""
    try:
        answered, logits = str(answer["model_id"]), {str(k): float(v) for k, v in answer["logits"].items()}
        scores = {str(score["label"]): float(score["confidence"]) for score in answer["top_k"]}
        best = str(answer["label"])
    except (TypeError, LookupError, ValueError, AttributeError):
        return None, f"logits expected, {_told(answer)} found"
    if answered != model.id:
        return None, f"{model.id} expected to answer, {answered} did"
    if not logits.keys() == scores.keys() == expected.keys():
        return None, f"the classes {_listed(expected)} expected, {_listed(logits)} answered"
    if not all(map(isfinite, (*logits.values(), *expected.values()))):
        return None, "a logit is not a number, here or there"
    if best != max(scores, key=scores.__getitem__) or _distance(scores, _softmax(logits)) > ROUNDING:
        return None, "its label and confidences are not those of its logits"
    return _distance(logits, expected), ""


def _told(answer: Any) -> str:
    """An answer without logits, in a few words: the service's own error, where it is one."""
    try:
        return f"{answer['error']['code']} ({answer['error']['message']})"[:PROBLEM_CHARACTERS]
    except (TypeError, LookupError):
        return " ".join(str(answer).split())[:PROBLEM_CHARACTERS]


def _result(name: str, alone: Answer, together: Answer) -> ProbeResult:
    if alone[0] is not None and together[0] is not None:
        return ProbeResult(name, max(alone[0], together[0]))
    if alone[1] == together[1]:
        return ProbeResult(name, None, alone[1])
    ways = {"alone": alone[1], "in a batch": together[1]}
    return ProbeResult(name, None, "; ".join(f"{way}: {problem}" for way, problem in ways.items() if problem))


def _distance(one: Logits, other: Logits) -> float:
    return max(abs(one[label] - other[label]) for label in one)


def _softmax(logits: Logits) -> dict[str, float]:
    values = np.exp(np.array([*logits.values()]) - max(logits.values()))
    return dict(zip(logits, (values / values.sum()).tolist(), strict=True))


def _listed(classes: Logits) -> str:
    return ", ".join(sorted(classes)[:5]) + (" …" if len(classes) > 5 else "")


def _short(error: ServingError) -> str:
    """Its first line, and the last error in the log that follows; the whole of it stands in our log."""
    told, *lines = str(error).splitlines()
    errors = [line.strip() for line in lines if "Error: " in line]
    return " ".join([told, *errors[-1:]])[: 2 * PROBLEM_CHARACTERS]
