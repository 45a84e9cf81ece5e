"""What a rehearsal asks for on digits, whose frozen set is too small for the usual gate.

A few hundred images can't show that a model lost no more than two points. On them the rehearsal proves the mechanics:
that each part starts the next, and that a gate judges. That a retraining heals is shown on CIFAR-10 alone.
"""

from flywheel.data.sources import DIGITS
from flywheel.ledger.entries import Json
from flywheel.records import DatasetVersion
from flywheel.settings import RehearsalParameters

WINDOW_ANSWERS = 200
RETRAINING: Json = {
    "gate": {"margin": 0.05, "slice_margin": 0.1, "disagreement": 0.1, "smallest_power": 0.0},
}
TOLD = "digits: a margin of 5 points, small windows; this proves the mechanics, and is no evidence of healing"


def is_small(version: DatasetVersion) -> bool:
    return version.source.partition("+")[0] == DIGITS


def policy_of(version: DatasetVersion) -> Json:
    """Parameters that retrainings of its release go by; none where the usual ones will do."""
    return RETRAINING if is_small(version) else {}


def fitted(parameters: RehearsalParameters, version: DatasetVersion) -> RehearsalParameters:
    """With small windows for a small task, where no other size was asked for."""
    usual = RehearsalParameters.model_fields["window_answers"].default
    if not is_small(version) or parameters.window_answers != usual:
        return parameters
    return parameters.model_copy(update={"window_answers": WINDOW_ANSWERS})
