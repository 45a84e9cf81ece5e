"""A model that is ready to answer, with what is said of it: loaded, warmed up and tried before it may.

This module imports torch, so the service imports it in each worker only.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bentos.classifier.answers import ServedModel
from bentos.classifier.ask import Ask
from flywheel.ledger.predictions import Role, Serving
from flywheel.model.folder import ModelError, verify
from flywheel.model.reference import Projection, read_projection, read_samples
from flywheel.runtime.running import RunningModel, engine_of, load_running

WARM_UP_BATCHES = (1, 8, 64)
TOLERANCE = 1e-3  # of a logit, as at the gate
LOTS = 2**64


@dataclass(frozen=True)
class Bundle:
    """One model and its serving: immutable, so that a batch that holds it is answered by it alone."""

    classifier: RunningModel
    projection: Projection
    serving: Serving
    about: ServedModel


@dataclass(frozen=True)
class Standing:
    """Who answers at one moment: the champion, and a model on trial for a share of the requests."""

    champion: Bundle
    trial: Bundle | None = None
    share: float = 0.0  # from 0 to 1

    def plays(self, ask: Ask) -> tuple[bool, bool]:
        """Whether a canary answers this image, and whether a shadow looks at it: always the same for one client and one
        model."""
        if self.trial is None:
            return False, False
        salted = self.trial.serving.model_id.encode() + ask.sticky
        drawn = int.from_bytes(hashlib.blake2b(salted, digest_size=8).digest(), "big") < self.share * LOTS
        role = self.trial.serving.role
        return drawn and role is Role.CANARY, drawn and role is Role.SHADOW


def load_bundle(folder: Path, serving: Serving, about: ServedModel) -> Bundle:
    """The model of a folder: every file's hash is checked, then its answers on its own samples.

    Raises ModelError where the folder is not that model's, whole, or answers otherwise than it did when it was trained.
    """
    model = verify(folder)
    if model.id != serving.model_id:
        raise ModelError(f"{folder}: {serving.model_id} expected, {model.id} found.")
    classifier = load_running(folder)
    warm_up(classifier)
    demand_same_answers(classifier, *read_samples(folder))
    told = about.model_copy(update={"engine": engine_of(classifier).value})
    return Bundle(classifier, read_projection(folder), serving, told)


def warm_up(classifier: RunningModel) -> None:
    """The first batch of each size pays for the allocations; it should not be a client's."""
    size = classifier.model.preprocessing.size
    for images in WARM_UP_BATCHES:
        classifier.predict_packed(np.zeros((images, size, size, 3), np.uint8))


def demand_same_answers(classifier: RunningModel, samples: NDArray[np.uint8], logits: NDArray[np.float32]) -> None:
    """Raises ModelError where the model's logits on its stored samples are not those that it gave when trained."""
    found = classifier.predict_packed(samples).logits
    if found.shape != logits.shape:
        raise ModelError(f"{classifier.model.id}: {logits.shape} logits on its samples expected, {found.shape} found.")
    difference = float(np.abs(found - logits).max(initial=0))
    if not difference <= TOLERANCE:  # NaN is not
        raise ModelError(
            f"{classifier.model.id}: its answers on {len(samples)} stored samples are {difference:.2g} apart from "
            f"those of its training, at most {TOLERANCE:g} expected. Train it again on this machine's kind of device."
        )
