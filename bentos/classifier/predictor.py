"""Images in, predictions out: the one `decode()`, the model's own preprocessing, and the model. Runs on one thread.

This module imports torch, so the service imports it in each worker only.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bentos.classifier.ask import Ask
from bentos.classifier.bundle import Bundle, Standing
from bentos.classifier.errors import Refusal
from bentos.classifier.image_header import ACCEPTED, Header, checked_header
from bentos.classifier.tallies import Tallies
from flywheel.data.decode import UndecodableImage, decode, image_id
from flywheel.data.measurements import measurable
from flywheel.model.inference import softmax
from flywheel.model.preprocessing import pack

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One image's answer. It names the model that gave it, since the champion may change between two batches."""

    id: str
    model_id: str
    classes: tuple[str, ...]
    logits: NDArray[np.float32]  # [C], calibrated
    probabilities: NDArray[np.float32]  # [C], their softmax

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k likeliest classes; equal ones in the order of the class list."""
        order = np.argsort(-self.probabilities, kind="stable")[:k].tolist()
        return [(self.classes[position], float(self.probabilities[position])) for position in order]


@dataclass(frozen=True, slots=True)
class Seen:
    """An image that was decoded: as each model takes it, and what the prediction log needs of it."""

    ask: Ask
    header: Header
    on_trial: bool  # whether the canary answers it
    packed: NDArray[np.uint8]  # [1, S, S, 3] for the model that answers
    for_shadow: NDArray[np.uint8] | None  # the same for the shadow, where it looks at this one
    pixels: NDArray[np.uint8]  # [H, W, 3], decoded; averaged down where it is large
    size: int  # bytes of what was sent
    image_id: str  # empty where the pixels are all there, and the log can compute it


@dataclass(frozen=True, slots=True)
class Answered:
    """A batch as one model answered it, for the prediction log."""

    bundle: Bundle
    shadow: Bundle | None
    at: int  # microseconds since 1970
    seen: list[Seen]
    probabilities: NDArray[np.float32]  # [N, C]
    embeddings: NDArray[np.float32]  # [N, D]


class Predictor:
    """Who stands, the limit on what is decoded, and where answers are recorded."""

    def __init__(
        self,
        standing: Standing,
        most_pixels: int,
        record: Callable[[Answered], None] = lambda _: None,
        tallies: Tallies | None = None,
    ) -> None:
        self.standing = standing  # replaced as a whole, by one store
        self.most_pixels = most_pixels
        self.record = record
        self.tallies = tallies or Tallies()

    def predict(self, asks: Sequence[Ask]) -> list[Prediction | Exception]:
        """One result an image, in order; one that can't be read gets a Refusal and leaves its neighbours alone."""
        standing = self.standing  # read once: one batch knows one champion
        found = [self._see(ask, standing) for ask in asks]
        seen = [each for each in found if isinstance(each, Seen)]
        tried = [each for each in seen if each.on_trial]
        own = [each for each in seen if not each.on_trial]
        answers: dict[bool, Iterator[Prediction | Exception]] = {False: self._by_champion(standing, own)}
        if standing.trial is not None:
            answers[True] = self._try(standing.trial, standing, tried)
        return [each if isinstance(each, Exception) else next(answers[each.on_trial]) for each in found]

    def _by_champion(self, standing: Standing, seen: list[Seen]) -> Iterator[Prediction]:
        try:
            return self._answer(standing.champion, standing, seen)
        except Exception:
            self.tallies.failed(standing.champion.serving, len(seen))
            raise

    def _try(self, trial: Bundle, standing: Standing, seen: list[Seen]) -> Iterator[Prediction | Exception]:
        """The canary's answers; where it can't give any, the champion's: no client fails for a trial."""
        try:
            return self._answer(trial, standing, seen)
        except Exception:  # whatever a model on trial does, it is counted against it
            log.exception("%s failed on %d requests; the champion answers them", trial.about.model_id, len(seen))
            self.tallies.failed(trial.serving, len(seen))
        return iter(self.predict_by(Standing(standing.champion), [each.ask for each in seen]))

    def predict_by(self, standing: Standing, asks: Sequence[Ask]) -> list[Prediction | Exception]:
        """The same by others than those who stand now."""
        found = [self._see(ask, standing) for ask in asks]
        answers = self._answer(standing.champion, standing, [each for each in found if isinstance(each, Seen)])
        return [each if isinstance(each, Exception) else next(answers) for each in found]

    def _answer(self, bundle: Bundle, standing: Standing, seen: list[Seen]) -> Iterator[Prediction]:
        """Raises FloatingPointError where a model on trial answers with what is no number."""
        if not seen:
            return iter(())
        began = time.perf_counter()
        outputs = bundle.classifier.predict_packed(np.concatenate([each.packed for each in seen]))
        probabilities = softmax(outputs.logits)
        if bundle is standing.trial and not np.isfinite(outputs.logits).all():
            raise FloatingPointError(f"{bundle.about.model_id} answered with what is no number")
        self.tallies.answered(bundle.serving, len(seen), time.perf_counter() - began)
        model = bundle.classifier.model
        shadow = standing.trial if any(each.for_shadow is not None for each in seen) else None
        now = time.time_ns() // 1000
        self.record(Answered(bundle, shadow, now, seen, probabilities, outputs.embeddings))
        return iter(
            [
                Prediction(each.ask.id, model.id, model.classes, logits, probability)
                for each, logits, probability in zip(seen, outputs.logits, probabilities, strict=True)
            ]
        )

    def _see(self, ask: Ask, standing: Standing) -> Seen | Exception:
        """Packed one by one: a batch of photographs at full size would fill the memory."""
        try:
            header, pixels = self._pixels(ask.content)
            on_trial, shadowed = standing.plays(ask)
            trial = standing.trial or standing.champion
            bundle = trial if on_trial else standing.champion
            packed = pack([pixels], bundle.classifier.model.preprocessing)
            for_shadow = pack([pixels], trial.classifier.model.preprocessing) if shadowed else None
            small = measurable(pixels)
            identity = "" if small is pixels else image_id(pixels)
            return Seen(ask, header, on_trial, packed, for_shadow, small, ask.size, identity)
        except Refusal as refusal:
            return refusal
        except UndecodableImage as error:
            return Refusal(422, "undecodable_image", f"The image can't be decoded: {error}", ACCEPTED)
        except Exception:  # the border: whatever a decoder does on hostile bytes, it is this one image's failure
            log.exception("an image of %d bytes failed outside decode's own checks", ask.size)
            return Refusal(422, "undecodable_image", "The image can't be decoded.", ACCEPTED)

    def _pixels(self, content: bytes | NDArray[np.uint8]) -> tuple[Header, NDArray[np.uint8]]:
        if isinstance(content, np.ndarray):
            return Header("pixels", content.shape[1], content.shape[0]), content
        return checked_header(content, self.most_pixels), decode(content)
