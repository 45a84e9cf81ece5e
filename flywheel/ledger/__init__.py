"""The operational database: append-only decisions, evaluation set uses and champions."""

from flywheel.ledger.entries import Champion, Decision, EvaluationSetUse, Kind, LedgerError
from flywheel.ledger.ledger import Ledger, open_ledger

__all__ = ["Champion", "Decision", "EvaluationSetUse", "Kind", "Ledger", "LedgerError", "open_ledger"]
