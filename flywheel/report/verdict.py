"""One page a gate's verdict: what was decided and why, each rule, and the challenger beside the champion."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from flywheel.evaluation.evidence import GateEvidence, SliceCounts
from flywheel.evaluation.gates import meets_champion
from flywheel.evaluation.metrics import MetricsError
from flywheel.evaluation.record import EvaluationError, Predictions
from flywheel.evaluation.rules.answers import SEVERITY
from flywheel.evaluation.rules.slices import smallest_detectable_drop
from flywheel.model.folder import write_atomically
from flywheel.paths import Paths
from flywheel.policies import GatePolicy
from flywheel.reasons import reason_of
from flywheel.records import GateVerdict, Interval, RulePart, Verdict
from flywheel.report.charts import (
    CHALLENGER,
    CHAMPION,
    Chart,
    CorruptedAccuracy,
    corruption_charts,
    reliability_chart,
)
from flywheel.report.contents import CLASSES_IN_SIGHT
from flywheel.report.contents import PAGE as REPORT
from flywheel.report.headline import headline
from flywheel.report.pairs import Changed, Pair, PairTests, compare, pair_tests
from flywheel.report.pictures import picture
from flywheel.report.wording import template

PAGE = "verdict.html"

OriginalOf = Callable[[str], bytes]


@dataclass(frozen=True)
class SliceRow:
    """A slice's part of the rule, and what it could have shown."""

    part: RulePart
    smallest_drop: float | None
    why: str  # in few words, where it did not pass


@dataclass(frozen=True)
class VerdictContents:
    """Everything that the page tells. All but the predictions and curves is recorded with the decision."""

    verdict: GateVerdict
    evidence: GateEvidence
    policy: GatePolicy
    challenger: Predictions | None = None
    champion: Predictions | None = None
    corrupted: CorruptedAccuracy | None = None
    remade: tuple[str, ...] = ()  # evaluations that were measured again, their record having been changed

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(result.label for result in self.evidence.challenger.classes)

    @property
    def meets_champion(self) -> bool:
        return meets_champion(self.evidence)

    @property
    def headline(self) -> tuple[str, str]:
        return headline(self.verdict, self.evidence, self.policy)

    @property
    def tests(self) -> PairTests | None:
        return pair_tests(self.evidence, self.policy) if self.meets_champion else None

    @cached_property
    def _compared(self) -> tuple[Pair | None, str]:
        if self.challenger is None or self.champion is None:
            who = "challenger" if self.challenger is None else "champion"
            found = (self.evidence.problems or {}).get("champion")
            gone = f"the {who}'s answers to the single images are not there"
            return None, f"the champion can't be compared ({found})" if found else gone
        try:
            return compare(self.challenger, self.champion, self.classes), ""
        except (EvaluationError, MetricsError) as error:
            return None, reason_of(error)

    @property
    def pair(self) -> Pair | None:
        """Both models image by image; None where their answers can't be laid side by side."""
        return self._compared[0]

    @property
    def no_pair(self) -> str:
        """Why not."""
        return self._compared[1]

    @property
    def slices(self) -> tuple[list[SliceRow], list[SliceRow]]:
        """In sight and behind a click: those that did not pass first, then the greatest loss."""
        parts = [part for rule in self.verdict.rules for part in rule.parts]
        parts.sort(key=lambda part: (SEVERITY.index(part.verdict), part.value if part.value is not None else 0.0))
        counted = {part.name: part for part in self.evidence.slices if part.counts.images}
        level = self.policy.slice_error / max(len(counted), 1)
        rows = [SliceRow(part, self._smallest_drop(counted.get(part.name), level), self._why(part)) for part in parts]
        return rows[:CLASSES_IN_SIGHT], rows[CLASSES_IN_SIGHT:]

    def _smallest_drop(self, counted: SliceCounts | None, level: float) -> float | None:
        return smallest_detectable_drop(counted, level, self.policy.loss_of_a_slice) if counted else None

    def _why(self, part: RulePart) -> str:
        if part.verdict is Verdict.PASS:
            return ""
        if part.verdict is Verdict.FAIL:
            return f"more than {100 * self.policy.loss_of_a_slice:g} points lost"
        if part.images < self.policy.smallest_slice:
            return f"not enough data: fewer than {self.policy.smallest_slice:,} images"
        return f"not enough data: a loss of {100 * self.policy.largest_slice_drop:g} points is not excluded"

    @property
    def settings(self) -> list[tuple[str, str, str]]:
        """The policy: each setting, its value and what it is."""
        fields = type(self.policy).model_fields
        return [(name, str(getattr(self.policy, name)), field.description or "") for name, field in fields.items()]


def write_verdict(contents: VerdictContents, original: OriginalOf, paths: Paths, *, at: datetime) -> Path:
    """Write `reports/<decision id>/verdict.html`, which opens from disk and loads nothing. Returns the page.

    `original` gives an image's original bytes by its id, or raises ValueError or OSError where they are not held:
    the image's place then says so. `at` is in UTC.
    """
    folder = paths.verdict(contents.verdict.id)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / PAGE, render_verdict(contents, original, reports=_reports(contents, paths), at=at))
    return folder / PAGE


def verdict_link(decision_id: str, evaluation_folder: Path, paths: Paths) -> str:
    """The way from an evaluation's report to the page of a verdict; empty where there is none."""
    page = paths.verdict(decision_id) / PAGE
    return Path(os.path.relpath(page, evaluation_folder)).as_posix() if page.is_file() else ""


def render_verdict(
    contents: VerdictContents, original: OriginalOf, *, reports: dict[str, str] | None = None, at: datetime
) -> str:
    """The page as text; `reports` are the ways to the models' own reports, by model id."""
    pair = contents.pair if contents.meets_champion else None
    slices = contents.slices
    drawn = [(row.part.images, row.part.interval) for rows in slices for row in rows]
    drawn += [(each.images, each.difference) for each in pair.classes] if pair else []
    return template("verdict.html.j2", pictured=_pictured(original)).render(
        contents=contents,
        verdict=contents.verdict,
        evidence=contents.evidence,
        policy=contents.policy,
        tests=contents.tests,
        pair=pair,
        slices=slices,
        in_sight=CLASSES_IN_SIGHT,
        reach=_reach(drawn, contents.policy.smallest_slice),
        reliability=_reliability(pair) if pair else (),
        corruptions=corruption_charts(contents.corrupted) if contents.corrupted else (),
        reports=reports or {},
        at=at,
    )


def _reports(contents: VerdictContents, paths: Paths) -> dict[str, str]:
    """Where the models' own reports lie, seen from the page; the challenger's is written soon after."""
    evidence = contents.evidence
    found = {evidence.challenger.model_id: evidence.challenger.id}
    found |= {each.model_id: each.evaluation_id for each in (evidence.champion, evidence.anchor) if each}
    here = paths.verdict(contents.verdict.id)
    return {
        model: Path(os.path.relpath(paths.report(evaluation) / REPORT, here)).as_posix()
        for model, evaluation in found.items()
        if (paths.report(evaluation) / REPORT).is_file() or _soon(contents, evaluation, paths)
    }


def _soon(contents: VerdictContents, evaluation_id: str, paths: Paths) -> bool:
    return evaluation_id == contents.verdict.evaluation_id and paths.report(evaluation_id).is_dir()


def _reliability(pair: Pair) -> tuple[tuple[Chart, float], ...]:
    sides = ((CHALLENGER, pair.challenger), (CHAMPION, pair.champion))
    return tuple((reliability_chart(who, found.bins), found.ece) for who, found in sides)


def _reach(intervals: list[tuple[int, Interval | None]], enough: int) -> float:
    """The difference at the ends of the drawn bars: one scale for all of them.

    Parts of fewer images than `enough` don't set it, if there are others: next to theirs all would be dots.
    """
    large = [each for images, each in intervals if images >= enough and each]
    ends = [abs(end) for each in large or [each for _, each in intervals if each] for end in (each.low, each.high)]
    return max([0.01, *(end for end in ends if end <= 1)])


def _pictured(original: OriginalOf) -> Callable[[Changed], dict[str, Any]]:
    def pictured(changed: Changed) -> dict[str, Any]:
        try:
            return {"uri": picture(original(changed.image_id)), "why": ""}
        except (ValueError, OSError) as error:
            return {"uri": "", "why": f"{reason_of(error)}."}

    return pictured
