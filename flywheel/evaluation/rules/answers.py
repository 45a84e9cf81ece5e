"""How a rule answers. What is missing or NaN never passes."""

from math import isfinite

from flywheel.records import Interval, RulePart, RuleResult, Verdict

POINTS = 100.0
SMALLEST_SHOWN_P = 1e-12
SEVERITY = (Verdict.FAIL, Verdict.NOT_ENOUGH_EVIDENCE, Verdict.PASS)


def answer(
    rule: str,
    verdict: Verdict,
    reason: str,
    value: float | None = None,
    threshold: float | None = None,
    interval: Interval | None = None,
    parts: tuple[RulePart, ...] = (),
) -> RuleResult:
    return RuleResult(rule, value, threshold, verdict, reason, interval, parts)


def broken(rule: str, value: float | None, threshold: float | None, reason: str) -> RuleResult:
    """What can't be a measurement fails."""
    number = value if value is not None and isfinite(value) else None
    return answer(rule, Verdict.FAIL, reason, number, threshold)


def unknown(rule: str, reason: str, value: float | None = None, threshold: float | None = None) -> RuleResult:
    return answer(rule, Verdict.NOT_ENOUGH_EVIDENCE, reason, value, threshold)


def at_most(rule: str, told: str, measured: Interval, largest: float, option: str) -> RuleResult:
    """An interval against a limit: below it passes, above it fails, around it is not enough evidence."""
    if not is_ordered(measured):
        return broken(rule, measured.value, largest, f"{told}: a number with its interval was expected.")
    if measured.high <= largest:
        verdict, told_end = Verdict.PASS, f"all of it is within {largest:g}."
    elif measured.low > largest:
        verdict, told_end = Verdict.FAIL, f"all of it is above {largest:g}, the policy's {option}."
    else:
        verdict, told_end = Verdict.NOT_ENOUGH_EVIDENCE, f"the interval still holds {largest:g}, the policy's {option}."
    return answer(rule, verdict, f"{told}: {told_end}", measured.value, largest, measured)


def is_ordered(measured: Interval) -> bool:
    ends = (measured.low, measured.value, measured.high)
    return all(map(isfinite, ends)) and measured.low <= measured.high


def is_share(measured: Interval) -> bool:
    return 0 <= measured.low <= measured.value <= measured.high <= 1  # False for NaN


def shown_p(p: float) -> str:
    """A probability that no number can be too small for."""
    return f"{p:.2g}" if p >= SMALLEST_SHOWN_P else f"below {SMALLEST_SHOWN_P:g}"


def points(difference: float) -> str:
    """A difference of shares, in percentage points with its sign."""
    return f"{difference * POINTS:+.1f}"


def points_interval(measured: Interval) -> str:
    return f"{points(measured.value)} [{points(measured.low)}, {points(measured.high)}] points"
