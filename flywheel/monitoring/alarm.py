"""Alarm over a model's whole life: the chance of any false alarm, over however many looks, stays within a budget.

Every look gives each channel a p-value. A calibrator makes an e-value of it, a number that is at most 1 on average
while nothing has moved (Vovk and Wang 2021, "E-values: calibration, combination and applications"). Evidence for "it
moved at look s" is the product of all e-values since s; the alarm's evidence is the mean of these products over all s,
by weights that sum to 1 over all looks without an end (an e-detector's mixture; Shin, Ramdas and Rinaldo 2024,
"E-detectors: a nonparametric framework for sequential change detection"). It starts below 1 and, while nothing has
moved, is a supermartingale, so by Ville's inequality (1939) it ever reaches 1 / α with probability α at most. The mean
over channels is one again, however they depend on each other.

A life goes from release to release. What is kept between looks is three numbers a channel.
"""

from dataclasses import dataclass
from math import log

import numpy as np

from flywheel import units
from flywheel.monitoring.drift import REFERENCE_ERROR, Channel, Drift
from flywheel.policies import AlarmPolicy

SMALLEST_P = 1e-6  # no tail is believed beyond; the largest e-value is about 5,000
# The prior weights of change points fall as t^-1.2. A change at look 10, 1,000 and 8,000 has to make up for ln 1/w of
# 4.5, 10.0 and 12.5; by 1 / (t ln² t) it were 4.9, 11.5 and 14.1, by 1 / t² 5.1, 14.3 and 18.5.
FALL = 1.2
TOTAL_WEIGHT = 5.591583  # ζ(1.2), rounded up


@dataclass(frozen=True)
class ChannelState:
    """The evidence of one channel so far."""

    name: str
    evidence: float = 0.0
    product: float = 0.0  # of the e-values since the change point that explains them best
    since_look: int = 0  # that change point


@dataclass(frozen=True)
class AlarmState:
    """What one look hands to the next."""

    looks: int = 0
    channels: tuple[ChannelState, ...] = ()
    alarmed_at: int | None = None  # the look at which it was raised; it stays until the next release


@dataclass(frozen=True)
class AlarmVerdict:
    """Whether to believe that something moved."""

    alarm: bool
    raised: bool  # by this very look
    evidence: float
    threshold: float
    channel: str  # that has most of the evidence
    since_look: int  # since when, most likely
    reason: str


def threshold_of(policy: AlarmPolicy, channels: int = 2) -> float:
    """1 / α, where α is what the references' own errors leave of the budget."""
    return 1 / (policy.false_alarm_budget - channels * REFERENCE_ERROR)


def weight(look: int) -> float:
    """The prior probability that what moved did so right before this look, counted from 1."""
    return float(look**-FALL) / TOTAL_WEIGHT


def e_value(p: float) -> float:
    """∫ κ p^(κ-1) dκ over 0 to 1: a calibrator that needs no tuning."""
    bounded = min(max(p, SMALLEST_P), 1.0)
    if bounded > 1 - 1e-6:
        return 0.5
    logarithm = log(bounded)
    return (1 - bounded + bounded * logarithm) / (bounded * logarithm**2)


def look(state: AlarmState, drift: Drift, policy: AlarmPolicy) -> tuple[AlarmState, AlarmVerdict]:
    """The state after a window, and what it says. Raises ValueError for a p-value that is none."""
    number = state.looks + 1
    before = {channel.name: channel for channel in state.channels}
    channels = tuple(_next(before.get(each.name, ChannelState(each.name)), each, number) for each in drift.channels)
    evidence = float(np.mean([channel.evidence for channel in channels]))
    threshold = threshold_of(policy, len(channels))
    raised = state.alarmed_at is None and evidence >= threshold
    alarmed_at = number if raised else state.alarmed_at
    strongest = max(channels, key=lambda channel: channel.evidence)
    verdict = AlarmVerdict(
        alarm=alarmed_at is not None,
        raised=raised,
        evidence=evidence,
        threshold=threshold,
        channel=strongest.name,
        since_look=strongest.since_look,
        reason=_reason(evidence, threshold, strongest, alarmed_at, number),
    )
    return AlarmState(number, channels, alarmed_at), verdict


def _next(state: ChannelState, found: Channel, number: int) -> ChannelState:
    if not 0 <= found.p <= 1:
        raise ValueError(f"{found.name}: a p-value expected, {found.p} found.")
    grown, begun = e_value(found.p), weight(number)
    since, product = (state.since_look, state.product) if state.product > 1 else (number, 1.0)
    # a product of so many e-values may leave what a float holds; beyond, more says nothing more
    return ChannelState(state.name, min((state.evidence + begun) * grown, 1e300), min(product * grown, 1e300), since)


def _reason(evidence: float, threshold: float, strongest: ChannelState, alarmed_at: int | None, number: int) -> str:
    found = f"evidence {units.evidence(evidence)}, {units.evidence(threshold)} is asked"
    if alarmed_at is None:
        return f"No alarm: {found}."
    since = f"the {strongest.name} moved, most likely at look {strongest.since_look}"
    if alarmed_at == number:
        return f"Alarm: {found}; {since}."
    return f"Alarm since look {alarmed_at}; now {found}; {since}."
