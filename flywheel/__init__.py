"""The pure core of flywheel: data, models, evaluation and monitoring, with no orchestrator in it."""

__version__ = "0.1.0"
