"""How numbers and times are written on the page."""

from datetime import datetime

NOTHING = "–"


def number(value: float | None) -> str:
    """Counts as counts, shares with three digits, nothing as a dash: `1797.0` is `1,797`, `0.1234` is `0.123`."""
    if value is None:
        return NOTHING
    return f"{int(value):,}" if float(value).is_integer() and abs(value) > 1 else f"{value:.3f}"


def percent(share: float) -> str:
    return f"{share:.1%}"


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
