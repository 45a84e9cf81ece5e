"""Before anything is trained: can the gate tell an equal model from a worse one with the images that there are?"""

import logging

from flywheel.data.versions import open_arrays
from flywheel.evaluation.evaluate import recorded_evaluation
from flywheel.evaluation.exposure import exposure
from flywheel.evaluation.power import equal_challenger_power, expected_disagreement, images_needed, margin_needed
from flywheel.evaluation.spending import Spending, next_comparison
from flywheel.ledger import Champion, Ledger
from flywheel.paths import Paths
from flywheel.policies import GatePolicy
from flywheel.records import DatasetVersion, Side
from tasks.gate_history import frozen_ids, past_uses

logger = logging.getLogger(__name__)


class GatePlanError(RuntimeError):
    """A policy that could hardly promote anything with the images that there are."""


def demand_power(
    version: DatasetVersion, champion: Champion | None, policy: GatePolicy, ledger: Ledger, paths: Paths
) -> None:
    """Raise GatePlanError where the next gate would pass an equal challenger less often than the policy asks for.

    A task's first model meets no champion. A budget that is spent is the gate's to say: its verdict tells what restores
    it, and the model may still be wanted.
    """
    if champion is None:
        return
    known = recorded_evaluation(champion.model_id, version, paths)
    disagreement = expected_disagreement(policy, known.top1.value if known else None)
    spending, images = next_budget(version, champion, policy, ledger, paths, disagreement)
    if spending.spent:
        logger.warning(
            "The frozen set has served all %d planned comparisons: this model can't be promoted by the gate.",
            spending.planned,
        )
        return
    power = equal_challenger_power(images, spending, policy, disagreement)
    if power >= policy.smallest_power:
        return
    needed = images_needed(spending, policy, disagreement, policy.smallest_power)
    margin = margin_needed(images, spending, disagreement, policy.smallest_power)
    wider = f", or a margin of {margin:g} (MARGIN={margin:g})" if margin is not None else ""
    raise GatePlanError(
        f"Comparison {spending.number} of {spending.planned} with the champion {champion.model_id} would pass an equal "
        f"model in {power:.0%} of cases only, {policy.smallest_power:.0%} is asked for: {images:,} frozen images are "
        f"too few for a margin of {policy.margin:g}. It takes {needed:,} images{wider}. Nothing was trained."
    )


def next_budget(
    version: DatasetVersion,
    champion: Champion,
    policy: GatePolicy,
    ledger: Ledger,
    paths: Paths,
    disagreement: float,
) -> tuple[Spending, int]:
    """What the next comparison with the champion finds of the frozen set: its number and level, and how many images."""
    arrays = open_arrays(version)
    ids = [str(name) for name in arrays.ids[arrays.side(Side.FROZEN)]]
    past = past_uses(ledger, version.task_id, (version.evaluation_set_id, "", champion.model_id))
    ids_of = frozen_ids(ledger, version.task_id, paths)
    found = exposure(past, version.evaluation_set_id, ids, ids_of, policy, disagreement)
    return next_comparison(found.uses, policy), int(found.chosen.sum())
