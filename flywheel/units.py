"""How a number is written where a person reads it: on a page, in a table, in the Prefect UI. One way for all."""

from collections.abc import Callable
from math import isfinite

from flywheel.records import Interval

NOTHING = "–"
TIMES = " ×"
A_LOT, HARDLY_ANY = 1e6, 0.01  # of evidence


def number(value: float | None) -> str:
    """Counts as counts, shares with three digits, nothing as a dash: `1797.0` is `1,797`, `0.1234` is `0.123`."""
    if value is None or not isfinite(value):
        return NOTHING
    return f"{int(value):,}" if float(value).is_integer() and abs(value) > 1 else f"{value:.3f}"


def percent(share: float | None) -> str:
    return f"{share:.1%}" if share is not None and isfinite(share) else NOTHING


def points(difference: float | None) -> str:
    """A difference of shares in percentage points, with its sign: `0.0123` is `+1.2`."""
    if difference is None or not isfinite(difference):
        return NOTHING
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in {"+0.0", "-0.0"} else text


def probability(value: float | None) -> str:
    """As a test gives it, to two digits; below one in a million only that is said."""
    if value is None or not isfinite(value):
        return NOTHING
    return "< 0.000001" if value < 1e-6 else f"{value:.2g}" if value >= 1e-4 else f"{value:.1g}"


def ratio(value: float | None) -> str:
    return f"{value:.2f}{TIMES}" if value is not None and isfinite(value) else NOTHING


def tiny(value: float | None) -> str:
    """A difference of logits: `0.000002` is `2e-06`, and no `0.000`."""
    return f"{value:.1g}" if value is not None and isfinite(value) else NOTHING


def evidence(value: float) -> str:
    """Of an alarm, or the threshold of one, to three digits; what is far beyond or below any is told as that."""
    if value > A_LOT:
        return "over 1 million"
    if 0 < value < HARDLY_ANY:
        return f"below {HARDLY_ANY:g}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def count(value: float | None) -> str:
    return f"{value:,.0f}" if value is not None and isfinite(value) else NOTHING


UNITS: dict[str, Callable[[float | None], str]] = {
    "leaks": count,
    "serving parity": tiny,
    "champion": points,
    "slices": points,
    "robustness": points,
    "drifted": points,
    "latency": ratio,
    "size": ratio,
}


def in_unit(value: float | None, rule: str) -> str:
    """A rule's value or threshold, in the rule's unit."""
    return UNITS.get(rule, number)(value)


def ends(interval: Interval | None, rule: str = "") -> str:
    """An interval's ends in the rule's unit."""
    if interval is None or not (isfinite(interval.low) and isfinite(interval.high)):
        return NOTHING
    low, high = (in_unit(end, rule).removesuffix(TIMES) for end in (interval.low, interval.high))
    return f"[{low}, {high}]"
