"""Labels that came in, from the prediction log to what may teach: validated, and what is not believed set aside."""

import csv
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from flywheel.identity import NAME_DIGITS, digest
from flywheel.labels.plausibility import (
    AGREEMENT,
    ONE_CLASS,
    PAIR,
    Finding,
    conflicting,
    expected,
    findings,
    last_of_each,
    own_share,
)
from flywheel.labels.queue import choose
from flywheel.ledger import Champion
from flywheel.ledger.database import database_url, open_engine
from flywheel.ledger.labelled import LabelledAnswer, LabelReader
from flywheel.ledger.predictions import PredictionRow, open_predictions
from flywheel.ledger.traffic import Traffic, TrafficReader
from flywheel.model.reference import read_reference
from flywheel.monitoring.baseline import read_baseline
from flywheel.paths import Paths
from flywheel.policies import LabelPolicy
from flywheel.records import TrainedModel, ValidationResult
from flywheel.settings import Settings
from tasks.validation import run_and_keep, write_whole

log = logging.getLogger(__name__)

COLUMNS = {AGREEMENT: "agreement", ONE_CLASS: "one_class", PAIR: "pair"}
RECENT = 1000  # predictions of the release that the traffic's confidence is taken from, and the queue
SET_ASIDE = ("prediction_id", "label", "source", "client", "at", "reason")
TEACHES = "its label would teach much"  # the reason of a request


@dataclass(frozen=True)
class SetAside:
    """A label that teaches nothing, and why."""

    answer: LabelledAnswer
    reason: str


@dataclass(frozen=True)
class Gathered:
    """All labels of a release, judged."""

    accepted: tuple[LabelledAnswer, ...]
    set_aside: tuple[SetAside, ...]
    check: ValidationResult | None  # None where no label came
    listed: Path | None = None  # where what was set aside is listed

    @property
    def summary(self) -> str:
        told = "; ".join(f"{count:,} {reason}" for reason, count in self.reasons.items())
        return f"{len(self.accepted):,} labels are believed" + (f", set aside: {told}." if told else ".")

    @property
    def reasons(self) -> dict[str, int]:
        """Why labels were set aside, and how many for it; the most frequent first."""
        return dict(Counter(each.reason for each in self.set_aside).most_common())


def gather_labels(
    champion: Champion,
    model: TrainedModel,
    believed: tuple[float, float] | None,
    policy: LabelPolicy,
    settings: Settings,
) -> Gathered:
    """Every label since the release, judged against what monitoring believes of the model's accuracy on its traffic."""
    with closing(open_labels(settings)) as reader:
        answers = reader.labelled(champion, policy.most_labels)
        confidence = mean_confidence(reader, champion, len(model.classes))
    return judge(answers, model, believed, confidence, policy, settings.paths)


def open_labels(settings: Settings) -> LabelReader:
    engine, _ = open_engine(database_url(settings.ledger_url), create=True)
    return LabelReader(engine)


def judge(
    answers: Sequence[LabelledAnswer],
    model: TrainedModel,
    believed: tuple[float, float] | None,
    confidence: float,
    policy: LabelPolicy,
    paths: Paths,
) -> Gathered:
    """The suite's answer to these labels; what it refuses is listed under `data/interim/labels`."""
    from expectations.labels import labels_suite

    rows = last_of_each(answers)
    if not rows:
        return Gathered((), (), None)
    found = _implausible(rows, model, believed, confidence, policy, paths)
    table = _table(rows, model, found)
    stem = f"labels-{digest([[each.position, each.label] for each in rows])[:NAME_DIGITS]}"
    check = run_and_keep(labels_suite(model.classes), table, model.id, stem, paths, table["prediction_id"], 1.0)
    reasons = _reasons(rows, check, found)
    accepted = tuple(each for place, each in enumerate(rows) if place not in reasons)
    set_aside = tuple(SetAside(rows[place], reason) for place, reason in sorted(reasons.items()))
    listed = _list(set_aside, paths, stem) if set_aside else None
    return Gathered(accepted, set_aside, check, listed)


def ask_for_more(champion: Champion, model: TrainedModel, wanted: int, settings: Settings) -> int:
    """Ask for the labels that would teach most, of recent answers whose image is kept; returns how many wait now."""
    predictions = open_predictions(settings)
    with closing(open_labels(settings)) as reader:
        traffic = reader.since(champion, reader.before(champion.since), RECENT)
        rows = _to_ask_for(traffic, reader, settings.paths)
    lacking = wanted - predictions.count_asked(champion.task_id)
    if rows and lacking > 0:
        reference = read_reference(settings.paths.model(model.id))
        chosen = choose(
            np.stack([np.frombuffer(row.probabilities, np.float32) for row in rows]),
            np.stack([np.frombuffer(row.embedding, np.float16) for row in rows]).astype(np.float32),
            reference.projection.apply(reference.embeddings),
            lacking,
        )
        predictions.ask([rows[place].id for place in chosen], TEACHES)
    return predictions.count_asked(champion.task_id)


def _to_ask_for(traffic: Traffic, reader: LabelReader, paths: Paths) -> list[PredictionRow]:
    """An answer an image, of those that can be shown and that nobody labelled, or was asked to label, before."""
    touched = reader.touched([row.id for row in traffic.rows])
    done = {row.image_id for row in traffic.rows if row.id in touched}
    rows = {row.image_id: row for row in traffic.rows if row.kept and row.image_id not in done}
    return [row for row in rows.values() if paths.predicted_image(row.image_id).is_file()]


def mean_confidence(reader: TrafficReader, champion: Champion, classes: int) -> float:
    """Of the answers of a release; a guess between nothing and certainty where there are none."""
    traffic = reader.since(champion, reader.before(champion.since), RECENT)
    found = [float(np.frombuffer(row.probabilities, np.float32).max()) for row in traffic.rows]
    return float(np.mean(found)) if found else (1 + 1 / classes) / 2


def _implausible(
    rows: Sequence[LabelledAnswer],
    model: TrainedModel,
    believed: tuple[float, float] | None,
    confidence: float,
    policy: LabelPolicy,
    paths: Paths,
) -> list[Finding]:
    reference = read_reference(paths.model(model.id))
    predicted = reference.logits.argmax(1).astype(np.int64)
    low = believed[0] if believed else None
    known = expected(low, confidence, predicted, reference.labels, len(model.classes))
    baseline = read_baseline(paths.model(model.id), model, reference) if believed else None
    own = own_share(baseline, model.id, believed[0]) if baseline and believed else None
    return findings([each for each in rows if _is_sound(each, model)], model.classes, known, policy, own)


def _is_sound(answer: LabelledAnswer, model: TrainedModel) -> bool:
    return answer.is_known and answer.label in model.classes


def _table(rows: Sequence[LabelledAnswer], model: TrainedModel, found: Iterable[Finding]) -> pd.DataFrame:
    """Who is not believed anyway contradicts nobody, or else one liar could have everybody's labels set aside."""
    flagged: dict[str, set[int]] = {column: set() for column in COLUMNS.values()}
    for finding in found:
        flagged[COLUMNS[finding.rule]] |= finding.positions
    condemned = set().union(*flagged.values())
    contradicting = conflicting(each for each in rows if _is_sound(each, model) and each.position not in condemned)
    return pd.DataFrame(
        {
            "prediction_id": [each.prediction_id for each in rows],
            "label": [each.label for each in rows],
            "source": [each.source for each in rows],
            "known": [each.is_known for each in rows],
            "conflicting": [each.position in contradicting for each in rows],
            **{column: [each.position in places for each in rows] for column, places in flagged.items()},
        }
    )


def _reasons(rows: Sequence[LabelledAnswer], check: ValidationResult, found: Sequence[Finding]) -> dict[int, str]:
    """Place → why it is set aside: the first expectation that it breaks, in the finding's own words where one is."""
    told = {position: each.reason for each in reversed(found) for position in each.positions}
    reasons: dict[int, str] = {}
    for result in check.results:
        for place in result.unexpected_rows if not result.success else ():
            own = told.get(rows[place].position) if result.subject in COLUMNS.values() else None
            reasons.setdefault(place, own or f"not so: {result.description}")
    return reasons


def _list(set_aside: Sequence[SetAside], paths: Paths, stem: str) -> Path:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SET_ASIDE)
    for each in set_aside:
        answer = each.answer
        told = answer.prediction_id, answer.label, answer.source, answer.client, answer.at.isoformat(), each.reason
        writer.writerow([_harmless(cell) for cell in told])
    file = paths.set_aside_labels(stem)
    write_whole(file, text.getvalue())
    log.warning("%d labels are set aside: %s", len(set_aside), file)
    return file


def _harmless(cell: str) -> str:
    """A spreadsheet would run what a stranger wrote, where that begins like a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
