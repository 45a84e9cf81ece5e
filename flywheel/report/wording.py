"""How numbers and times are written on the pages, and the templates that they are written into."""

from collections.abc import Callable
from datetime import datetime
from math import isfinite

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from flywheel.records import Interval, Verdict

NOTHING = "–"
TIMES = " ×"
VERDICT_STYLE = {Verdict.PASS: "pass", Verdict.FAIL: "fail", Verdict.NOT_ENOUGH_EVIDENCE: "unknown"}


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


def count(value: float | None) -> str:
    return f"{value:,.0f}" if value is not None and isfinite(value) else NOTHING


UNITS: dict[str, Callable[[float | None], str]] = {
    "leaks": count,
    "serving parity": tiny,
    "champion": points,
    "slices": points,
    "robustness": points,
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


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def template(name: str, **filters: Callable[..., object]) -> Template:
    """A template of this folder. Class names, paths and reasons come from outside: all is escaped."""
    # the ending .j2 is not one that jinja2 would escape by itself
    environment = Environment(
        loader=PackageLoader("flywheel.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    ours = (number, percent, points, probability, in_unit, ends, moment)
    environment.filters.update({each.__name__: each for each in ours}, **filters)
    environment.globals["style"] = VERDICT_STYLE
    return environment.get_template(name)
