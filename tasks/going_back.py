"""The stage of `rollback-classifier`."""

from flywheel.ledger import open_ledger
from flywheel.lineage.release import restore_previous
from flywheel.records import Release
from flywheel.settings import Settings
from tasks.artifacts import show_release
from tasks.reporting import stage


@stage("roll back")
def go_back(task: str, who: str, reason: str) -> Release:
    """Raises LineageError where there is no champion before, or it is not whole."""
    settings = Settings()
    release = restore_previous(task or None, open_ledger(settings), settings.paths, reason=reason, who=who)
    show_release(release)
    return release
