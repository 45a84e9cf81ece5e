"""What one worker process serves with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bentos.classifier.answers import LogAnswer, OnTrial, ServedModel
from bentos.classifier.ask import Ask
from bentos.classifier.batcher import MicroBatcher
from bentos.classifier.prediction_id import PredictionIds

if TYPE_CHECKING:  # torch stands behind them, and the process that only starts workers does without
    from bentos.classifier.feedback import Feedbacks
    from bentos.classifier.log_notes import LogNotes
    from bentos.classifier.prediction_log import PredictionLogger
    from bentos.classifier.predictor import Prediction, Predictor
    from bentos.classifier.watch import Watch


@dataclass(frozen=True)
class Worker:
    """Bound to the routes when the worker starts."""

    predictor: "Predictor"
    batcher: "MicroBatcher[Ask, Prediction]"
    ids: PredictionIds
    logger: "PredictionLogger | None" = None
    log_url: str = ""  # without its password
    feedbacks: "Feedbacks | None" = None
    watch: "Watch | None" = None
    notes: "LogNotes | None" = None  # of the service's other workers, where there may be some

    @property
    def about(self) -> ServedModel:
        """Who answers now, and how the log and the watch stand."""
        standing = self.predictor.standing
        trial = standing.trial and OnTrial(
            model_id=standing.trial.serving.model_id, role=standing.trial.serving.role.value, share=standing.share
        )
        follows = "the ledger's champion" if self.watch else "nobody: the model of its own Bento"
        found = {"trial": trial, "follows": follows, "trouble": self.watch.trouble if self.watch else ""}
        return standing.champion.about.model_copy(update={**found, "log": self._log})

    @property
    def _log(self) -> LogAnswer | None:
        if self.logger is None:
            return None
        state = self.notes.together() if self.notes else self.logger.state
        return LogAnswer(
            where=self.log_url,
            waiting=state.waiting,
            written=state.written,
            spooled=state.spooled,
            dropped=state.dropped,
            trouble=state.trouble,
        )

    def close(self) -> None:
        """What was answered is recorded before the process ends."""
        if self.watch is not None:
            self.watch.close()
        self.batcher.close()
        if self.logger is not None:
            self.logger.close()
