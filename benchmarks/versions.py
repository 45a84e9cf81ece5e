"""What a benchmark trains or judges on: the dataset version of a source, made in a home of the benchmark's own."""

from flywheel.data.index import build_index
from flywheel.data.sources import fetch_source
from flywheel.data.versions import build_version
from flywheel.records import DatasetVersion
from flywheel.settings import DataParameters, Settings


def version_of(parameters: DataParameters, settings: Settings) -> DatasetVersion:
    """Fetched, indexed and split, without the suites: a benchmark's source is known to be sound."""
    index = build_index(fetch_source(parameters.source, settings), settings.paths)
    version = build_version(index, (), parameters, settings.paths)
    print(f"{version.id}: {version.counts}", flush=True)
    return version
