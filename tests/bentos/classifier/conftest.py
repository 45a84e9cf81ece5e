"""A tiny real network with drawn weights, in a folder as training leaves it."""

import pytest
import torch

from flywheel.model.architecture import create, parameter_count
from flywheel.model.checkpoint import save_weights
from flywheel.model.folder import WEIGHTS, list_files, write_manifest
from flywheel.model.inference import Classifier, load_model
from flywheel.records import Preprocessing, TrainedModel

CLASSES = ("cat", "dog", "ship", "truck", "frog", "horse", "bird")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = tmp_path_factory.mktemp("models") / "model-0123456789ab"
    folder.mkdir()
    torch.manual_seed(0)
    network = create("airbench_small", len(CLASSES), 32)
    save_weights(network.state_dict(), folder / WEIGHTS)
    model = TrainedModel(
        id=folder.name,
        folder=folder,
        dataset_id="ds-1",
        task_id="task-1",
        architecture="airbench_small",
        classes=CLASSES,
        preprocessing=Preprocessing(32, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        parameters=parameter_count(network),
        seed=0,
        threads=1,
        device="cpu",
        epochs=1,
        best_epoch=1,
        top1_validation=0.5,
        weights_sha256=list_files(folder, [WEIGHTS])[WEIGHTS],
        train_seconds=1.0,
        images_per_second=1.0,
    )
    write_manifest(folder, model, list_files(folder, [WEIGHTS]), {})
    return load_model(folder)
