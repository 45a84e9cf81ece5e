"""Every label that came for a release's answers, with the answer: what may teach, once it is judged."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import RowMapping, or_, select

from flywheel.ledger.entries import Champion
from flywheel.ledger.prediction_tables import label_requests, labels, predictions, servings
from flywheel.ledger.predictions import SEEKS, Role
from flywheel.ledger.traffic import TrafficReader


def _none() -> NDArray[np.float32]:
    return np.zeros(0, np.float32)


@dataclass(frozen=True)
class LabelledAnswer:
    """A label and the answer that it is about; without an answer where nobody knows the prediction."""

    position: int  # of the label
    prediction_id: str
    label: str
    source: str  # a person or a system
    client: str  # the key's id
    at: datetime  # UTC
    asked: str  # why it was asked for; empty: it came by itself
    model_id: str = ""
    predicted: int = -1
    image_id: str = ""
    kept: bool = False  # whether the image's bytes were
    probabilities: NDArray[np.float32] = field(default_factory=_none, compare=False, repr=False)  # [C]
    embedding: bytes = field(default=b"", compare=False, repr=False)  # float16[K], as the log has it
    statistics: bytes = field(default=b"", compare=False, repr=False)  # float32[7]

    @property
    def is_known(self) -> bool:
        return self.predicted >= 0

    @property
    def confidence(self) -> float:
        return float(self.probabilities.max()) if len(self.probabilities) else 0.0


class LabelReader(TrafficReader):
    """Reads them beside the traffic."""

    def labelled(self, champion: Champion, most: int) -> list[LabelledAnswer]:
        """The newest labels of the release's answers, in order; those of predictions that nobody knows too."""
        query = (
            select(labels, label_requests.c.reason, servings.c.model_id, predictions)
            .join(predictions, predictions.c.id == labels.c.prediction_id, isouter=True)
            .join(servings, servings.c.id == predictions.c.serving_id, isouter=True)
            .join(label_requests, label_requests.c.prediction_id == labels.c.prediction_id, isouter=True)
            .where(
                labels.c.at >= champion.since,
                or_(
                    predictions.c.id.is_(None),
                    (servings.c.release_id == champion.decision_id) & (servings.c.role == Role.CHAMPION.value),
                ),
            )
            .order_by(labels.c.position.desc())
            .limit(most)
        )
        with self._engine.begin() as connection:
            rows = connection.execute(query).all()
        return [
            LabelledAnswer(
                position=row._mapping[labels.c.position],
                prediction_id=row._mapping[labels.c.prediction_id],
                label=row._mapping[labels.c.label],
                source=row._mapping[labels.c.source],
                client=row._mapping[labels.c.client],
                at=row._mapping[labels.c.at],
                asked=row._mapping[label_requests.c.reason] or "",
                **(_answer(row._mapping) if row._mapping[predictions.c.id] is not None else {}),
            )
            for row in reversed(rows)
        ]

    def about(self, task_id: str, said: Sequence[tuple[str, str, str]], at: datetime) -> list[LabelledAnswer]:
        """Labels that are not on record yet (prediction's id, label, source) with the task's answers that they are
        about, whoever gave these; `position` is the place in what was given."""
        answers: dict[str, dict[str, Any]] = {}
        with self._engine.begin() as connection:
            for first in range(0, len(said), SEEKS):
                query = (
                    select(label_requests.c.reason, servings.c.model_id, predictions)
                    .join_from(predictions, servings, servings.c.id == predictions.c.serving_id)
                    .join(label_requests, label_requests.c.prediction_id == predictions.c.id, isouter=True)
                    .where(
                        predictions.c.id.in_(sorted({each[0] for each in said[first : first + SEEKS]})),
                        servings.c.task_id == task_id,
                    )
                )
                for row in connection.execute(query):
                    asked = {"asked": row._mapping[label_requests.c.reason] or ""}
                    answers[row._mapping[predictions.c.id]] = asked | _answer(row._mapping)
        unknown = {"asked": ""}
        return [
            LabelledAnswer(place, identity, label, source, "", at, **answers.get(identity, unknown))
            for place, (identity, label, source) in enumerate(said)
        ]

    def touched(self, prediction_ids: Sequence[str]) -> set[str]:
        """Of these, what was labelled, or asked for, at any time."""
        found: set[str] = set()
        with self._engine.begin() as connection:
            for first in range(0, len(prediction_ids), SEEKS):
                some = prediction_ids[first : first + SEEKS]
                for table in (labels, label_requests):
                    query = select(table.c.prediction_id).where(table.c.prediction_id.in_(some))
                    found.update(connection.execute(query).scalars())
        return found


def _answer(values: RowMapping) -> dict[str, Any]:
    return {
        "model_id": values[servings.c.model_id],
        "predicted": values[predictions.c.predicted],
        "image_id": values[predictions.c.image_id],
        "kept": values[predictions.c.kept],
        "probabilities": np.frombuffer(values[predictions.c.probabilities] or b"", np.float32),
        "embedding": values[predictions.c.embedding],
        "statistics": values[predictions.c.statistics],
    }
