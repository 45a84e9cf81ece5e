"""The operational database: append-only decisions, evaluation set uses and champions, in a hash chain."""

from flywheel.ledger.entries import Champion, Decision, EvaluationSetUse, JudgedUse, Kind, LedgerError
from flywheel.ledger.ledger import Ledger, migrate_ledger, open_ledger
from flywheel.ledger.verification import ChainReport

__all__ = ["ChainReport", "Champion", "Decision", "EvaluationSetUse", "JudgedUse", "Kind", "Ledger", "LedgerError"]
__all__ += ["migrate_ledger", "open_ledger"]
