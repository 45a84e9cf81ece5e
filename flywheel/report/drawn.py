"""Whether a model's figures are drawn already: told by the note beside them, without matplotlib, which takes seconds.

The note is written last. It holds what the figures were drawn from and by, and the hash of each file.
"""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from flywheel.data.folders import read_json, write_json
from flywheel.identity import code_version, digest, digest_of_file
from flywheel.model.folder import HISTORY
from flywheel.paths import Paths
from flywheel.records import DatasetVersion, Evaluation, TrainedModel

NOTE = "figures.json"
PACKAGE = Path(__file__).resolve().parent.parent


def find_figures(
    model: TrainedModel, evaluation: Evaluation, version: DatasetVersion, paths: Paths
) -> list[Path] | None:
    """The figures of these very records, in the order they were drawn; None where one is to be drawn."""
    folder = paths.figures(model.id)
    note = read_json(folder / NOTE)
    if note is None or note.get("drawn_from") != _drawn_from(model, evaluation, version):
        return None
    figures = {folder / name: sha256 for name, sha256 in note["files"]}
    whole = all(figure.is_file() and digest_of_file(figure) == sha256 for figure, sha256 in figures.items())
    return list(figures) if whole else None


def note_figures(
    figures: Sequence[Path], model: TrainedModel, evaluation: Evaluation, version: DatasetVersion, paths: Paths
) -> None:
    """Say of what these figures were drawn."""
    files = [(figure.name, digest_of_file(figure)) for figure in figures]
    note = {"drawn_from": _drawn_from(model, evaluation, version), "files": files}
    write_json(paths.figures(model.id) / NOTE, note)


def _drawn_from(model: TrainedModel, evaluation: Evaluation, version: DatasetVersion) -> str:
    """The hash of the records that a figure shows, and of the code that draws it."""
    records = [model.id, digest_of_file(model.folder / HISTORY), evaluation.id, evaluation.correct_sha256, version.id]
    code = [digest_of_file(PACKAGE / "figures.py"), code_version(PACKAGE, ["evaluation"])]
    return digest([records, code, metadata.version("matplotlib")])
