"""The operational database: append-only decisions, evaluation set uses and champions."""
