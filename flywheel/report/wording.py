"""The templates of the pages, and how a time and a verdict are written there."""

from collections.abc import Callable
from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from flywheel.records import Verdict
from flywheel.units import ends, in_unit, number, percent, points, probability

VERDICT_STYLE = {Verdict.PASS: "pass", Verdict.FAIL: "fail", Verdict.NOT_ENOUGH_EVIDENCE: "unknown"}


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
