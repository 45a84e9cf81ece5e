"""What `training_loop` compares: `python -m benchmarks.training_programs NAME job.json`, which prints a line a pass.

`flywheel` is the training of `make train`, but for the process around it and the validation after an epoch: `fit` with
its augmentation, schedule, losses, W&B offline, checkpoints and history. `bare` is the ceiling: forward and backward of
the same network over one batch that lies ready, and nothing else, not even an optimizer. `dataloader` is the loop that
one writes by hand: a DataLoader over tensors in memory, transformed image by image by torchvision.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flywheel.data.versions import open_arrays
from flywheel.model.architecture import create, memory_format
from flywheel.model.preprocessing import measure_preprocessing
from flywheel.model.training import fit
from flywheel.records import DatasetVersion, Preprocessing, Side, from_json
from flywheel.settings import Recipe, Settings, keep_tools_at_home
from tasks.tracking import Tracker

OnEvent = Callable[[dict[str, Any]], None]
COARSE = 8  # pixels a side of the noise that is enlarged to images: as smooth as photographs


@dataclass(frozen=True)
class Job:
    """What all of the programs train on, and how."""

    dataset: DatasetVersion
    images: int  # the first of the training side
    recipe: Recipe
    home: Path


def flywheel(job: Job, say: OnEvent) -> None:
    keep_tools_at_home(Settings(home=job.home))
    arrays, recipe = open_arrays(job.dataset), job.recipe
    rows = arrays.side(Side.TRAIN)
    name = f"{recipe.model}-benchmark"
    with Tracker.start(name, recipe, job.dataset, job.home, track=True) as tracker:

        def listen(event: dict[str, Any]) -> None:
            say(event)
            tracker.log(event)

        fit(
            arrays.images,
            arrays.labels,
            rows[: job.images],
            rows[:0],
            job.dataset.classes,
            recipe,
            "cpu",
            job.home / name,
            listen,
            preprocessing=measure_preprocessing(arrays.images, rows, job.dataset.filter),
        )


def bare(job: Job, say: OnEvent) -> None:
    torch.manual_seed(job.recipe.seed)
    network, layout = _network(job)
    noise = torch.randn(job.recipe.batch_size, 3, COARSE, COARSE)
    images = F.interpolate(noise, size=job.dataset.size, mode="bilinear").contiguous(memory_format=layout)
    labels = torch.randint(0, len(job.dataset.classes), (job.recipe.batch_size,))
    for _ in range(job.recipe.epochs):
        for _ in range(job.images // job.recipe.batch_size):
            F.cross_entropy(network(images), labels).backward()
            network.zero_grad(set_to_none=True)
        say({"event": "epoch"})


def dataloader(job: Job, say: OnEvent) -> None:
    from timm.optim import create_optimizer_v2
    from torch.optim.lr_scheduler import CosineAnnealingLR
    from torch.utils.data import DataLoader

    recipe = job.recipe
    torch.manual_seed(recipe.seed)
    network, layout = _network(job)
    loader = DataLoader(InMemory(job), recipe.batch_size, shuffle=True, drop_last=True)
    optimizer = create_optimizer_v2(
        network, recipe.optimizer, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = CosineAnnealingLR(optimizer, recipe.epochs * len(loader))
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    for _ in range(recipe.epochs):
        total = 0.0
        for images, labels in loader:
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(network(images.contiguous(memory_format=layout)), labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        say({"event": "epoch", "loss": total / len(loader)})


class InMemory(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """uint8[3, S, S] of memory, cropped, mirrored and normalised one at a time."""

    def __init__(self, job: Job) -> None:
        from torchvision.transforms import v2

        arrays = open_arrays(job.dataset)
        rows = arrays.side(Side.TRAIN)[: job.images]
        measured: Preprocessing = measure_preprocessing(arrays.images, rows, job.dataset.filter)
        self.images = torch.from_numpy(arrays.images[rows]).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.from_numpy(arrays.labels[rows])
        self.transform = v2.Compose(
            [
                v2.RandomCrop(job.dataset.size, padding=job.recipe.shift, padding_mode="reflect"),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(measured.mean, measured.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.images[index]), self.labels[index]


PROGRAMS: dict[str, Callable[[Job, OnEvent], None]] = {"flywheel": flywheel, "bare": bare, "dataloader": dataloader}


def _network(job: Job) -> tuple[nn.Module, torch.memory_format]:
    torch.set_num_threads(job.recipe.threads)
    network = create(job.recipe.model, len(job.dataset.classes), job.dataset.size, job.recipe.stem)
    layout = memory_format(network)
    return network.to(memory_format=layout).train(), layout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PROGRAMS)
    parser.add_argument("job", type=Path)
    given = parser.parse_args()
    PROGRAMS[given.name](from_json(Job, given.job.read_bytes()), lambda event: print(json.dumps(event), flush=True))


if __name__ == "__main__":
    main()
