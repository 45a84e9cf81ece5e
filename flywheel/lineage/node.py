"""A thing on the way, what is said of it, and whether it is still what its name and the ledger say."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class LineageError(RuntimeError):
    """Something that can't be explained, promoted or gone back to; the message says why and what to do."""


class State(StrEnum):
    """What a look at a thing's bytes told."""

    WHOLE = "whole"  # its hash is the one on record
    CHANGED = "changed"  # it is not
    MISSING = "missing"
    UNCHECKED = "unchecked"  # no hash of it is on record


@dataclass(frozen=True)
class Check:
    """A state, and what was compared or what does not fit."""

    state: State
    told: str


@dataclass(frozen=True)
class Node:
    """A thing in a tree of what came from what."""

    relation: str  # to the one above: "trained on"
    kind: str  # "dataset version"
    id: str
    told: str
    check: Check
    children: tuple["Node", ...] = ()


def all_nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from all_nodes(child)


def troubles(node: Node) -> list[Node]:
    """What is no longer as it was, or gone."""
    return [each for each in all_nodes(node) if each.check.state in {State.CHANGED, State.MISSING}]
