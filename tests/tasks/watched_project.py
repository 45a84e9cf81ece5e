"""A home with a champion, a log, and a hand that sends images."""

from datetime import UTC, datetime

import numpy as np
import pytest

from flywheel.data.decode import image_id
from flywheel.data.measurements import statistics
from flywheel.data.versions import open_arrays
from flywheel.ledger.predictions import PredictionRow, Role, Serving, open_predictions
from flywheel.model.inference import load_model, softmax
from flywheel.model.reference import read_reference
from flywheel.settings import MonitorParameters, Settings
from tasks.evaluation import evaluate_model
from tasks.monitoring import baseline_of, begin, look_at_traffic, read, record
from tasks.window import check_window

PARAMETERS = MonitorParameters.model_validate({"window": {"fewest_images": 30}})
ONE = 1  # the serving's id


class Watched:
    """A home with a champion, a log, and a hand that sends images."""

    def __init__(self, project):
        self.project = project
        self.settings = Settings(home=project.home, database_url="")
        self.champion = project.ledger.champion()
        self.log = open_predictions(self.settings)
        self.model = project.strong
        self.classifier = load_model(project.paths.model(self.model.id))
        self.reference = read_reference(project.paths.model(self.model.id))
        self.arrays = open_arrays(project.version)
        since = self.champion.since
        names = (self.champion.task_id, self.model.id, self.champion.bento_tag, self.champion.decision_id)
        self.log.append([Serving(ONE, *names, Role.CHAMPION, "host:1", since)], [])
        self.sent = 0

    def send(self, rows, change=lambda images: images, at: datetime | None = None, **broken) -> list[str]:
        """Answer and log images of the version, as the service does; the originals were measured, so what is carried
        over is a change."""
        packed = self.arrays.images[rows]
        images = change(packed)
        outputs = self.classifier.predict_packed(images)
        projected = self.reference.projection.apply(outputs.embeddings).astype(np.float16)
        probabilities = softmax(outputs.logits)
        measured = (self.arrays.statistics[rows] + statistics(images) - statistics(packed)).clip(0, 1)
        moment = at or datetime.now(UTC)
        logged = []
        for place, image in enumerate(images):
            self.sent += 1
            row = PredictionRow(
                f"{self.sent:036}",
                int(moment.timestamp() * 1e6) + place,
                ONE,
                int(probabilities[place].argmax()),
                probabilities[place].tobytes(),
                projected[place].tobytes(),
                measured[place].astype(np.float32).tobytes(),
                image_id(image),
                "PNG",
                *image.shape[1::-1],
                900,
                "",
                True,
            )
            logged.append(row._replace(**broken))
        self.log.append([], logged)
        return [row.id for row in logged]

    def look(self, parameters: MonitorParameters = PARAMETERS):
        """Begin, read, validate, measure, record: the decision, its look and its window."""
        ledger, paths = self.project.ledger, self.project.paths
        begun = begin(ledger, self.settings, "")
        traffic, span, judged = read(begun, self.settings, parameters)
        check = None
        if span is not None:
            classes = len(begun.model.classes)
            check = check_window(
                traffic, span, begun.model.id, classes, datetime.now(UTC), begun.usual_rate, parameters.window, paths
            )
        baseline = lambda: baseline_of(begun.model, paths)  # noqa: E731
        look, window = look_at_traffic(begun, traffic, span, judged, check, baseline, parameters)
        return record(begun, look, parameters, ledger), look, window


@pytest.fixture
def watched(project) -> Watched:
    evaluation = evaluate_model(project.strong, project.version, project.paths)
    assert project.promote(project.judge(evaluation)).promoted
    return Watched(project)
