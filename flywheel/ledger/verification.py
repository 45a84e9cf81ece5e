"""Is every row as it was written, and is the last one still there? Reads the chain, the rows and the head's file."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, inspect

from flywheel.ledger.chain import GENESIS, Link, all_links, link_hash, row_digests
from flywheel.ledger.heads import Head
from flywheel.ledger.tables import CHAINED, chain
from flywheel.records import Verdict

MOST_FINDINGS = 20  # a ledger that was cut short has as many as it had rows
Digests = dict[tuple[str, int], str]  # by table and position


@dataclass(frozen=True)
class ChainReport:
    """What a look at the whole ledger found."""

    verdict: Verdict
    rows: int
    ledger_id: str
    head: str  # the hash of the chain's last link: write it down elsewhere, and the ledger can be held to it
    findings: tuple[str, ...]  # what does not fit; empty where the verdict is pass
    notes: tuple[str, ...]


def verify_chain(connection: Connection, heads: Mapping[str, Head], head_file: Path) -> ChainReport:
    """Pass where every row fits its link, every link the one before, and the last one the head that was written down.

    A head that is behind is a pass with a note. None at all is not enough evidence: rows cut off at the end would leave
    no other trace.
    """
    missing = sorted({chain.name, *(table.name for table in CHAINED)} - set(inspect(connection).get_table_names()))
    if missing:
        gone = f"The ledger's tables {', '.join(missing)} are gone: nothing can be told about the rows."
        return ChainReport(Verdict.FAIL, 0, "", "", (gone,), ())
    links, digests = all_links(connection), _digests(connection)
    ledger_id = links[0].hash if links else ""
    found = [*_broken_links(links, digests), *_unlinked_rows(links, digests)]
    head = heads.get(ledger_id)
    found += [_lost(links, head, head_file)] if head and not _holds(links, head) else []
    notes = _notes(links, head, heads, head_file)
    verdict = Verdict.FAIL if found else Verdict.PASS if head else Verdict.NOT_ENOUGH_EVIDENCE
    return ChainReport(verdict, len(digests), ledger_id, links[-1].hash if links else "", _shortened(found), notes)


def _digests(connection: Connection) -> Digests:
    return {(table.name, position): digest for table in CHAINED for position, digest in row_digests(connection, table)}


def _broken_links(links: list[Link], digests: Digests) -> Iterator[str]:
    if not links or links[0].position != GENESIS:
        yield "The chain's first link is gone: nothing can be told about the rows."
    for previous, link in itertools.pairwise(links):
        row = f"{link.row_table}, row {link.row_position}"
        if link.position != previous.position + 1:
            yield f"Links {previous.position + 1} to {link.position - 1} were removed from the chain."
        elif (link.row_table, link.row_position) not in digests:
            yield f"{row}: removed."
        elif link.hash != link_hash(previous.hash, digests[link.row_table, link.row_position]):
            yield f"{row}: changed, or its link {link.position} was."


def _unlinked_rows(links: list[Link], digests: Digests) -> Iterator[str]:
    linked = {(link.row_table, link.row_position) for link in links}
    for table, position in sorted(digests.keys() - linked):
        yield f"{table}, row {position}: added by something else than flywheel, or its link was removed."


def _holds(links: list[Link], head: Head) -> bool:
    return any((link.position, link.hash) == (head.position, head.hash) for link in links)


def _lost(links: list[Link], head: Head, head_file: Path) -> str:
    """The chain does not hold what was written down outside: its end was cut off, or all of it written anew."""
    missing = head.position - (links[-1].position if links else 0)
    told = f"{head_file} saw {head.position:,} rows at {head.at:%Y-%m-%d %H:%M:%S} UTC"
    if missing > 0:
        return f"The last {missing:,} rows were removed: {told}."
    return f"Rows were changed and the chain was written anew over them: {told}, and the chain was another then."


def _notes(links: list[Link], head: Head | None, heads: Mapping[str, Head], head_file: Path) -> tuple[str, ...]:
    notes = []
    if head is None and heads:
        notes.append(f"{head_file} knows {len(heads)} other ledger(s) that were written from here, not this one.")
    if head is None:
        notes.append(
            "No head of this ledger was kept on this machine, so rows that were cut off at the end can't be told. "
            "The next decision from here writes one."
        )
    elif links and links[-1].position > head.position:
        behind = links[-1].position - head.position
        notes.append(f"The head's file is behind by {behind:,} rows, which fit; the next decision from here mends it.")
    return tuple(notes)


def _shortened(found: list[str]) -> tuple[str, ...]:
    more = len(found) - MOST_FINDINGS
    return (*found[:MOST_FINDINGS], f"… and {more:,} more.") if more > 0 else tuple(found)
