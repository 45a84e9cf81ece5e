"""Identity → path, and nothing else: the one place that knows where a thing lies. No folder is made here."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """All folders of one project. Two clones have two homes and never meet."""

    home: Path

    @property
    def external(self) -> Path:
        """Archives, as they were downloaded or given."""
        return self.home / "data" / "external"

    def raw(self, source: str) -> Path:
        """A source, unpacked and untouched."""
        return self.home / "data" / "raw" / source

    @property
    def interim(self) -> Path:
        return self.home / "data" / "interim"

    def index(self, index_id: str) -> Path:
        """`index.parquet` and its manifest."""
        return self.interim / index_id

    def quarantine(self, index_id: str) -> Path:
        """CSV: the rows that a row-level expectation took out, with the reason."""
        return self.interim / "quarantine" / f"{index_id}.csv"

    def set_aside_labels(self, name: str) -> Path:
        """CSV: labels that came in and are not believed, with the reason."""
        return self.interim / "labels" / f"{name}.csv"

    @property
    def predicted(self) -> Path:
        """The bytes of images that a service classified, by image id: a sample, and those whose label is asked for."""
        return self.home / "data" / "interim" / "predicted"

    def predicted_image(self, image_id: str) -> Path:
        return self.predicted / image_id[:2] / image_id

    @property
    def images(self) -> Path:
        """The original bytes of every image of every version, by image id."""
        return self.home / "data" / "processed" / "images"

    @property
    def datasets(self) -> Path:
        return self.home / "data" / "processed"

    def dataset(self, dataset_id: str) -> Path:
        return self.datasets / dataset_id

    @property
    def models(self) -> Path:
        return self.home / "models"

    def model(self, model_id: str) -> Path:
        return self.models / model_id

    @property
    def reports(self) -> Path:
        return self.home / "reports"

    def report(self, evaluation_id: str) -> Path:
        """An evaluation's record, its per-image results and `report.html`."""
        return self.reports / evaluation_id

    def verdict(self, decision_id: str) -> Path:
        """A gate decision's page, `verdict.html`."""
        return self.reports / decision_id

    def watch(self, task_id: str) -> Path:
        """Monitoring's pages of a task: `index.html` of the last look, one a decision that asked for something."""
        return self.reports / "monitoring" / task_id

    @property
    def watch_metrics(self) -> Path:
        """The last look of every task, as Prometheus reads it."""
        return self.reports / "monitoring" / "metrics.prom"

    def rehearsal(self, name: str) -> Path:
        """A rehearsal's record and picture."""
        return self.reports / "rehearsals" / name

    def figures(self, model_id: str) -> Path:
        return self.reports / "figures" / model_id

    @property
    def validations(self) -> Path:
        """Great Expectations' results, a JSON each."""
        return self.reports / "validations"

    @property
    def data_docs(self) -> Path:
        return self.reports / "data_docs"

    @property
    def state(self) -> Path:
        """What tools keep for themselves (Prefect, BentoML, W&B, caches), and the default ledger."""
        return self.home / ".flywheel"

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.db"

    @property
    def ledger_head(self) -> Path:
        """The last link of the ledger's hash chain, kept outside the database."""
        return self.state / "ledger-head.json"

    @property
    def service(self) -> Path:
        """The address that `make serve` serves at, while it does."""
        return self.state / "service.address"

    @property
    def spool(self) -> Path:
        """Rows of the prediction log that wait for a database that was away."""
        return self.state / "spool"

    @property
    def bentoml(self) -> Path:
        return self.state / "bentoml"
