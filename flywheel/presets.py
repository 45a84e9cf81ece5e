"""Named sets of parameters: a base that every other option overrides. Each says its command, cost and result."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flywheel.settings import TrainingParameters

Sections = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Preset:
    """A base for `TrainingParameters`."""

    name: str
    command: str
    cost: str
    expected: str  # the result, and where it was seen
    parameters: Sections  # by section: data, recipe, gate

    def with_options(self, options: Mapping[str, Any]) -> TrainingParameters:
        """The preset, overridden by options of the same shape. Raises pydantic.ValidationError."""
        document: dict[str, Any] = {section: dict(values) for section, values in self.parameters.items()}
        for name, value in options.items():
            document[name] = {**document.get(name, {}), **value} if isinstance(value, Mapping) else value
        return TrainingParameters.model_validate(document)


QUICKSTART = Preset(
    name="quickstart",
    command="make run",
    cost="30 to 36 CPU seconds of training on one thread for 10,000 images of 32 pixels",
    expected="73 to 74 % top-1 on CIFAR-10's JPEG copy after 5 epochs; 99 % on digits, in seconds",
    parameters={},
)
CIFAR10 = Preset(
    name="cifar10",
    command="make run PRESET=cifar10 SOURCE=cifar10 DEVICE=cuda",
    cost="20 seconds of training on an H100, 45 with its start, checkpoints and end; hours on a CPU",
    expected="94.5 % top-1 on the official pixels (94.1 to 94.6, five seeds: `make bench`, gpu_cifar10)",
    parameters={
        "data": {"subset": None, "size": 32},
        "recipe": {
            "model": "airbench_widest",
            "epochs": 30,
            "batch_size": 1000,
            "learning_rate": 0.1,
            "label_smoothing": 0.2,
            "ema": 0.99,
            "shift": 4,
            "cutout": 12,
        },
    },
)
CIFAR10_BEST = Preset(
    name="cifar10-best",
    command="make run PRESET=cifar10-best SOURCE=cifar10 DEVICE=cuda",
    cost="under four minutes of training on an H100; days on a CPU",
    expected="95.9 % top-1 on the official pixels (95.8 and 96.0, two seeds: `make bench`, gpu_cifar10)",
    parameters={
        "data": {"subset": None, "size": 32},
        "recipe": {
            "model": "airbench_widest",
            "epochs": 200,
            "batch_size": 1000,
            "learning_rate": 0.05,
            "ema": 0.995,
            "shift": 4,
            "cutmix": 1.0,
            "both_sides": True,
        },
    },
)
FINETUNE = Preset(
    name="finetune",
    command="make run PRESET=finetune WEIGHTS=tf_efficientnet_lite0.safetensors (or PRETRAINED=1 MODEL=any of timm's)",
    cost="about 270 CPU seconds of training on one thread for 10,000 images of 64 pixels and 3 epochs",
    expected="73 % top-1 on CIFAR-10's JPEG copy; 33 % from scratch, 51 % by a linear probe (`make bench`, pretrained)",
    parameters={
        "data": {"size": 64},
        "recipe": {
            "model": "tf_efficientnet_lite0",
            "pretrained": True,
            "epochs": 3,
            "head_epochs": 1,
            "batch_size": 64,
            "optimizer": "adamw",
            "learning_rate": 0.004,
            "layer_decay": 0.95,
            "schedule": "cosine",
            "shift": 4,
        },
    },
)
PRESETS = {preset.name: preset for preset in (QUICKSTART, CIFAR10, CIFAR10_BEST, FINETUNE)}
