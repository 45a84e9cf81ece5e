"""Source → index → dataset version, as stages."""

from flywheel.data.index import build_index
from flywheel.data.sources import fetch_source
from flywheel.data.versions import build_version
from flywheel.records import DatasetVersion, ImageIndex, Source
from flywheel.settings import DataParameters, Settings
from tasks.reporting import reporter, stage


@stage("fetch source", "fetch {parameters.source}")
def fetch(parameters: DataParameters) -> Source:
    """The folder of class folders that the user asked for, downloaded or unpacked where need be."""
    return fetch_source(parameters.source, Settings(), reporter().progress)


@stage("index", "index {source.name}")
def index_images(source: Source) -> ImageIndex:
    return build_index(source, Settings().paths, reporter().progress)


@stage("make dataset", "make a dataset version of {index.id}")
def make_dataset(index: ImageIndex, quarantined: tuple[int, ...], parameters: DataParameters) -> DatasetVersion:
    return build_version(index, quarantined, parameters, Settings().paths, reporter().progress)
