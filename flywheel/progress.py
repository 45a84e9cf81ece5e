"""How long work says where it stands, without knowing who listens."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # what is done, units done, units in all (0: not known)


def silent(what: str, done: int, total: int) -> None:
    """Tells nobody."""
