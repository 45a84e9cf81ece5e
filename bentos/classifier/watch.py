"""Which model answers: once a second each worker asks the ledger who is champion and who is on trial.

A new one is loaded beside the old, tried, and put in its place by one store between two batches. One that can't be
loaded, or answers otherwise than it did when it was trained, changes nothing: the old one serves on, and the refusal
stands in the prediction log and in `/model`.
"""

import gc
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from bentos.classifier.answers import ServedModel
from bentos.classifier.bundle import Bundle, Standing, load_bundle
from bentos.classifier.predictor import Predictor
from flywheel.ledger import Champion, Decision, Ledger, LedgerError
from flywheel.ledger.predictions import PredictionLog, Role, Serving, Trial
from flywheel.model.folder import ModelError, read_model
from flywheel.paths import Paths

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
LOOKS_A_NOTE = 5  # an idle worker too says every so often that it is there
LONGEST_RETRY_SECONDS = 60.0
UNREADABLE = (LedgerError, SQLAlchemyError, OSError)


def new_serving(
    task_id: str, model_id: str, bento_tag: str, release_id: str = "", role: Role = Role.CHAMPION
) -> Serving:
    """A model's beginning in this process, under a number that no other worker draws."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    number = secrets.randbits(62)
    return Serving(number, task_id, model_id, bento_tag, release_id, role, worker, datetime.now(UTC))


@dataclass
class _Place:
    """The champion's place or the trial's: who holds it, and who could not take it."""

    served: Champion | Trial | None = None
    refused: Champion | Trial | None = None
    trouble: str = ""
    retry_in: float = 0.0  # seconds
    waited: float = 0.0

    def is_settled(self, wanted: Champion | Trial | None) -> bool:
        """Whether nothing is to be done. What was refused is tried again, ever more rarely: a folder that is being
        copied may be whole a moment later, and one that is damaged should not be read all the time."""
        if wanted == self.served:
            self.served, self.refused, self.trouble = wanted, None, ""  # a lease may have been renewed
            return True
        self.waited += LOOK_SECONDS
        return wanted == self.refused and self.waited < self.retry_in

    def serve(self, wanted: Champion | Trial | None) -> None:
        self.served, self.refused, self.trouble = wanted, None, ""

    def refuse(self, wanted: Champion | Trial, why: str) -> bool:
        """Whether this is news."""
        news = wanted != self.refused
        self.retry_in = LOOK_SECONDS if news else min(2 * self.retry_in, LONGEST_RETRY_SECONDS)
        self.refused, self.trouble, self.waited = wanted, why, 0.0
        return news


class Watch:
    """One thread a worker. `look` may be called before it starts, so that a worker begins with the right model."""

    def __init__(
        self,
        predictor: Predictor,
        paths: Paths,
        ledger: Callable[[], Ledger],
        predictions: Callable[[], PredictionLog],
        entered: Callable[[Serving], None],
        swapped: Callable[[], None] = lambda: None,
    ) -> None:
        self._predictor = predictor
        self._own = predictor.standing.champion
        self._paths = paths
        self._open_ledger, self._open_predictions = ledger, predictions
        self._ledger: Ledger | None = None
        self._predictions: PredictionLog | None = None
        self._entered, self._swapped = entered, swapped
        self._champion, self._trial = _Place(), _Place()
        self._unreadable = ""
        self._looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="champion-watch", daemon=True)

    @property
    def trouble(self) -> str:
        """Why what the ledger wants is not served; empty where it is."""
        return " ".join(filter(None, (self._unreadable, self._champion.trouble, self._trial.trouble)))

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_SECONDS + 5)

    def look(self) -> None:
        """One look, and the swaps that it asks for."""
        try:
            champion, trial = self._wanted()
        except UNREADABLE as error:
            self._cannot_read(error)
            return
        self._unreadable = ""
        self._note_tallies()
        if not self._champion.is_settled(champion):
            self._follow_champion(champion)
        if not self._trial.is_settled(trial):
            self._follow_trial(trial)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception as error:  # the border: a watch that has ended would be noticed by nobody
                log.exception("the look for the champion failed")
                self._unreadable = f"The look for the champion failed: {_told(error)}"

    def _wanted(self) -> tuple[Champion | None, Trial | None]:
        self._ledger = self._ledger or self._open_ledger()
        self._predictions = self._predictions or self._open_predictions()
        task = self._own.serving.task_id
        champion, trial = self._ledger.champion(task), self._predictions.trial(task)
        # a model that became champion meanwhile is on trial no more, whoever ends that
        return champion, None if champion and trial and trial.model_id == champion.model_id else trial

    def _note_tallies(self) -> None:
        """What was counted since the last look goes to where a release's canary is judged."""
        tallies, standing = self._predictor.tallies, self._predictor.standing
        self._looks += 1
        if self._looks % LOOKS_A_NOTE == 0:
            tallies.note_anew(each.serving for each in (standing.champion, standing.trial) if each is not None)
        changed = tallies.changed()
        try:
            if self._predictions is not None:
                self._predictions.note(changed)
        except UNREADABLE as error:
            self._predictor.tallies.again(changed)
            log.warning("what was counted could not be noted: %s", _told(error))

    def _cannot_read(self, error: Exception) -> None:
        told = f"The ledger can't be read: {_told(error)}"
        if told != self._unreadable:
            log.warning("%s", told)
        self._unreadable = told
        self._ledger = self._predictions = None
        trial = self._trial.served
        if isinstance(trial, Trial) and trial.until is not None and datetime.now(UTC) >= trial.until:
            self._follow_trial(None)  # whoever renewed its lease can't be asked, and it ran out by what is known

    def _follow_champion(self, wanted: Champion | None) -> None:
        if wanted is None:  # before the first promotion; a task that had a champion always has one
            self._put(replace(self._predictor.standing, champion=self._own), self._own)
            self._champion.serve(None)
            return
        names = (wanted.task_id, wanted.model_id, wanted.bento_tag, wanted.decision_id)
        serving = new_serving(*names)
        try:
            bundle = self._loaded(serving)
            about = bundle.about.of_champion(wanted, self._gate_of(wanted))
        except (ModelError, *UNREADABLE) as error:
            self._refuse(self._champion, wanted, serving, error)
            return
        self._put(replace(self._predictor.standing, champion=replace(bundle, about=about)), bundle)
        self._champion.serve(wanted)

    def _follow_trial(self, wanted: Trial | None) -> None:
        """A trial that has ended, or can't begin, leaves all requests to the champion."""
        standing = self._predictor.standing
        if wanted is None:
            self._put(Standing(standing.champion), None)
            self._trial.serve(None)
            return
        serving = new_serving(*_names(wanted), wanted.role)
        try:
            bundle = self._loaded(serving)
        except (ModelError, *UNREADABLE) as error:
            self._put(Standing(standing.champion), None)
            self._refuse(self._trial, wanted, serving, error)
            return
        self._put(Standing(standing.champion, bundle, wanted.share), bundle)
        self._trial.serve(wanted)

    def _put(self, standing: Standing, entering: Bundle | None) -> None:
        """The swap: one store. What was loaded at the start is frozen, so the collection walks over little."""
        if entering is not None:
            self._entered(entering.serving)
            self._predictor.tallies.note_anew([entering.serving])
        before, self._predictor.standing = self._predictor.standing, standing
        if before.champion.serving.model_id != standing.champion.serving.model_id:
            self._swapped()
            log.info("%s answers now, after %s", standing.champion.about.model_id, before.champion.about.model_id)
        left = {bundle.serving.id: bundle.serving for bundle in (before.champion, before.trial) if bundle is not None}
        stays = {bundle.serving.id for bundle in (standing.champion, standing.trial) if bundle is not None}
        for serving in (serving for key, serving in left.items() if key not in stays):
            self._predictor.tallies.forget(serving)
        del before
        gc.collect()

    def _loaded(self, serving: Serving) -> Bundle:
        """The model of the serving: one that is in memory already is not loaded again."""
        standing = self._predictor.standing
        for bundle in (self._own, standing.champion, standing.trial):
            if bundle is not None and bundle.serving.model_id == serving.model_id:
                return replace(bundle, serving=serving)
        folder = self._paths.model(serving.model_id)
        return load_bundle(folder, serving, ServedModel.of(read_model(folder), {}, tag=serving.bento_tag))

    def _gate_of(self, champion: Champion) -> Decision | None:
        """For `/model` only: a service answers without it."""
        return self._ledger.gate_of_champion(champion) if self._ledger else None

    def _refuse(self, place: _Place, wanted: Champion | Trial, serving: Serving, error: Exception) -> None:
        """The old model serves on; the refusal stands in the log of this service and in the prediction log, once."""
        why = f"{serving.model_id} is not served as {serving.role}: {_told(error)}"
        if place.refuse(wanted, why):
            log.warning("%s", why)
            self._entered(replace(serving, problem=why))


def _names(trial: Trial) -> tuple[str, str, str, str]:
    return trial.task_id, trial.model_id, trial.bento_tag, f"trial-{trial.position}"


def _told(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())[:500]
