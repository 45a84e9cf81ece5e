"""What a release answered since the last look, as a table for validation and as a sample for measuring."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from flywheel.data.measurements import STATISTICS
from flywheel.ledger.traffic import Traffic
from flywheel.monitoring.sample import Sample, sample_of_log
from flywheel.paths import Paths
from flywheel.policies import WindowPolicy
from flywheel.records import ValidationResult
from tasks.validation import run_and_keep

if TYPE_CHECKING:
    import pandas as pd

MICROSECONDS = 1e6


@dataclass(frozen=True)
class Span:
    """When the predictions of a window were given."""

    first: datetime  # UTC
    last: datetime
    hours: float  # since the look before, or since the release


def span_of(traffic: Traffic, since: datetime) -> Span | None:
    """None where there is no prediction."""
    if not traffic.rows:
        return None
    moments = [row.at for row in traffic.rows]
    first, last = (datetime.fromtimestamp(at / MICROSECONDS, UTC) for at in (min(moments), max(moments)))
    return Span(first, last, (last - min(since, last)).total_seconds() / 3600)


def window_table(traffic: Traffic, span: Span, now: datetime) -> "pd.DataFrame":
    """A row a prediction; what can't be read of it is missing."""
    import pandas as pd

    probabilities = [np.frombuffer(row.probabilities, np.float32) for row in traffic.rows]
    embeddings = [np.frombuffer(row.embedding, np.float16) for row in traffic.rows]
    measured = [np.frombuffer(row.statistics, np.float32) for row in traffic.rows]
    nothing = np.full(len(STATISTICS), np.nan, np.float32)
    statistics = np.stack([each if each.size == len(STATISTICS) else nothing for each in measured])
    images = pd.Series([row.image_id for row in traffic.rows])
    table = pd.DataFrame(
        {
            "id": [row.id for row in traffic.rows],
            "at": [row.at / MICROSECONDS for row in traffic.rows],
            "predicted": [row.predicted for row in traffic.rows],
            "classes": [each.size for each in probabilities],
            "confidence": [
                float(each[row.predicted]) if 0 <= row.predicted < each.size else float("nan")
                for row, each in zip(traffic.rows, probabilities, strict=True)
            ],
            "total": [float(each.sum(dtype=np.float64)) for each in probabilities],
            "embedding_finite": [bool(each.size and np.isfinite(each).all()) for each in embeddings],
            "width": [row.width for row in traffic.rows],
            "height": [row.height for row in traffic.rows],
            "repeated": images.duplicated().to_numpy(),
            **{name: statistics[:, place] for place, name in enumerate(STATISTICS)},
        }
    )
    table = table.assign(newest_hours_ago=(now.timestamp() - table["at"].max()) / 3600)
    return table.assign(per_hour=traffic.answers / span.hours) if span.hours else table


def check_window(
    traffic: Traffic,
    span: Span,
    subject: str,
    classes: int,
    now: datetime,
    usual_rate: float | None,
    policy: WindowPolicy,
    paths: Paths,
) -> ValidationResult:
    """What the suite `predictions` finds. Its page takes the place of the last one of this model."""
    from expectations.predictions import Expected, predictions_suite

    table = window_table(traffic, span, now)
    expected = Expected(classes, now.timestamp(), usual_rate if "per_hour" in table else None)
    suite = predictions_suite(expected, policy)
    return run_and_keep(suite, table, subject, f"{subject}-{suite.name}", paths, table["id"], largest_share=0.0)


@dataclass(frozen=True)
class Window:
    """Different images, each as it was answered first."""

    sample: Sample
    image_ids: tuple[str, ...]
    prediction_ids: tuple[str, ...]
    kept: tuple[bool, ...]  # whether the image's bytes are on disk


def window_of(traffic: Traffic, classes: int) -> Window:
    """Raises ValueError where a row is not as the suite demands it."""
    rows = list({row.image_id: row for row in reversed(traffic.rows)}.values())[::-1]
    sample = sample_of_log(
        [row.probabilities for row in rows],
        [row.embedding for row in rows],
        [row.statistics for row in rows],
        classes,
    )
    return Window(
        sample,
        tuple(row.image_id for row in rows),
        tuple(row.id for row in rows),
        tuple(row.kept for row in rows),
    )
