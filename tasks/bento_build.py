"""The child process that talks to BentoML: `python -m tasks.bento_build <request.json>`.

A process of its own, because BentoML reads its home once a process, at import, and imports the service that it packs:
here from the staged files, so one that the Bento would lack fails the build. Nothing of the core is imported here.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

SERVICE = "bentos.classifier.service:Classifier"
DESCRIPTION = "bentos/classifier/README.md"
MODEL_ALIAS = "trained"  # by which the service asks for its model


@dataclass(frozen=True)
class BuildRequest:
    """All that BentoML is told; folders are absolute."""

    sources: Path  # the files to ship, and nothing else
    model_files: Path  # the files of the model, and nothing else
    model_tag: str
    bento_tag: str
    labels: dict[str, str]
    metadata: dict[str, float | int | str]
    packages: list[str]


def build(request: BuildRequest) -> None:
    """Puts the model and the Bento into the stores of BENTOML_HOME."""
    import bentoml

    with bentoml.models.create(request.model_tag, labels=request.labels, metadata=request.metadata) as model:
        shutil.copytree(request.model_files, model.path, dirs_exist_ok=True)
    name, version = request.bento_tag.split(":")
    bentoml.bentos.build(
        SERVICE,
        name=name,
        version=version,
        build_ctx=str(request.sources),
        include=["**/*"],
        labels=request.labels,
        description=(request.sources / DESCRIPTION).read_text(encoding="utf-8"),
        models=[{"tag": request.model_tag, "alias": MODEL_ALIAS}],
        python={"packages": request.packages, "lock_packages": False},  # a lock needs an index, and names it
    )


if __name__ == "__main__":
    build(TypeAdapter(BuildRequest).validate_json(Path(sys.argv[1]).read_bytes()))
