"""Networks by name: every timm model, and flywheel's own `airbench_small` and `airbench`, registered in timm.

The own net follows airbench (Jordan, 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU"): a frozen 2×2 whitening
convolution fitted on the training images, three blocks of two convolutions, batch norm without scale, GELU, global
maximum pooling and a scaled head. It learns much in few steps, which is what a CPU has.
"""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flywheel.model.folder import ModelError
from flywheel.model.stems import shrink_stem, stem_arguments

WHITENING_KERNEL = 2
WHITENING_EPSILON = 5e-4  # keeps the faintest directions of a patch from being blown up
HEAD_SCALE = 1 / 9  # small first logits let the learning rate be high
PRETRAINED_CFG = {"input_size": (3, 32, 32), "num_classes": 10, "first_conv": "whiten", "classifier": "head.fc"}
BATCH_NORM_MOMENTUM = 0.3  # statistics must follow within the few dozen steps of a small training set


class Block(nn.Module):
    """Two 3×3 convolutions, the first one pooled to half the size; a third one adds to what the first one gave."""

    def __init__(self, channels_in: int, channels: int, depth: int = 2) -> None:
        super().__init__()
        self.conv1 = _convolution(channels_in, channels)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = _norm(channels)
        self.conv2 = _convolution(channels, channels)
        self.norm2 = _norm(channels)
        if depth == 3:
            self.conv3 = _convolution(channels, channels)
            self.norm3 = _norm(channels)
        self.depth = depth
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        if min(x.shape[-2:]) > 1:
            x = self.pool(x)
        first: Tensor = self.act(self.norm1(x))
        second: Tensor = self.act(self.norm2(self.conv2(first)))
        return second if self.depth == 2 else self.act(first + self.norm3(self.conv3(second)))


class Head(nn.Module):
    """Global maximum pooling and a linear map without bias, scaled down."""

    def __init__(self, features: int, classes: int, drop_rate: float) -> None:
        super().__init__()
        self.features = features
        self.drop = nn.Dropout(drop_rate)
        self.fc = _classifier(features, classes)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.drop(x.amax((2, 3)))
        return x if pre_logits else self.fc(x) * HEAD_SCALE


class Airbench(nn.Module):
    """The net, with the interface that timm's models share."""

    def __init__(
        self,
        widths: tuple[int, ...] = (16, 32, 64),
        depth: int = 2,
        num_classes: int = 10,
        in_chans: int = 3,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = widths[-1]
        stem = 2 * in_chans * WHITENING_KERNEL**2
        self.whiten = nn.Conv2d(in_chans, stem, WHITENING_KERNEL)
        self.whiten.weight.requires_grad = False
        self.act = nn.GELU()
        blocks = [Block(before, after, depth) for before, after in zip((stem, *widths), widths, strict=False)]
        self.blocks = nn.Sequential(*blocks)
        self.head = Head(widths[-1], num_classes, drop_rate)
        self.feature_info = [
            {"num_chs": width, "reduction": 2 ** (i + 1), "module": f"blocks.{i}"} for i, width in enumerate(widths)
        ]

    @torch.no_grad()
    def fit_stem(self, images: Tensor) -> None:
        """Set the frozen first convolution to the whitening of the 2×2 patches of float32[N, C, H, W].

        Its filters are the eigenvectors of the patches' covariance over the root of their eigenvalues, and the same
        negated, so that the activation after it loses nothing.
        """
        patches = nn.functional.unfold(images, WHITENING_KERNEL).transpose(1, 2).flatten(0, 1).double()
        patches -= patches.mean(0)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + WHITENING_EPSILON).sqrt()).T.flip(0)
        signs = torch.sign(filters.gather(1, filters.abs().argmax(1, keepdim=True)))
        filters = (filters * signs).view(-1, *self.whiten.weight.shape[1:])
        self.whiten.weight.copy_(torch.cat((filters, -filters)))
        if self.whiten.bias is not None:
            self.whiten.bias.zero_()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:  # noqa: ARG002 - timm's interface
        """The layers, for learning rates that fall from one to the next below."""
        return {"stem": r"^whiten", "blocks": r"^blocks\.(\d+)"}

    def get_classifier(self) -> nn.Module:
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head for other classes. The pooling is part of the net: anything but `max` raises ModelError."""
        if global_pool not in (None, "", "max"):
            raise ModelError(f"airbench: its pooling is 'max', '{global_pool}' was asked for. Leave global_pool out.")
        self.num_classes = num_classes
        self.head.fc = _classifier(self.head.features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.act(self.whiten(x)))
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        logits: Tensor = self.head(x, pre_logits=pre_logits)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def airbench_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Widths 16, 32, 64: about 1,000 images a second of one CPU thread in training."""
    return _build("airbench_small", pretrained, widths=(16, 32, 64), **kwargs)


def airbench(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Widths 32, 64, 128: about 450 images a second of one CPU thread in training."""
    return _build("airbench", pretrained, widths=(32, 64, 128), **kwargs)


def airbench_wide(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Widths 64, 256, 256, as airbench94 has them: for a GPU; about 80 images a second of one CPU thread."""
    return _build("airbench_wide", pretrained, widths=(64, 256, 256), **kwargs)


def airbench_widest(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Widths 128, 384, 512 and blocks of three convolutions, as airbench96 has them: for a GPU."""
    return _build("airbench_widest", pretrained, widths=(128, 384, 512), depth=3, **kwargs)


OWN = (airbench_small, airbench, airbench_wide, airbench_widest)


def register() -> None:
    """Make flywheel's own nets known to timm, once a process."""
    import timm
    from timm.models import register_model

    for entrypoint in OWN:
        if not timm.is_model(entrypoint.__name__):
            register_model(entrypoint)


def demand_known(name: str) -> None:
    """Raise ModelError, with near names, where timm has no model of that name."""
    import timm

    register()
    if not timm.is_model(name):
        raise ModelError(f"model '{name}': a timm model's name was expected, this is none.{_suggestion(name)}")
    try:
        timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:  # a name's second part, after the dot
        tags = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*")) or "none"
        raise ModelError(
            f"model '{name}': a tag of pretrained weights that timm knows was expected: {tags}."
        ) from error


def create(name: str, classes: int, size: int, stem: str = "stock") -> nn.Module:
    """An untrained network for float32[N, 3, size, size], with weights drawn from torch's global generator.

    Raises ModelError where timm has no such model (near names are suggested), where it can't be built for the size, or
    where no small stem is known for it.
    """
    import timm

    demand_known(name)
    arguments = {**size_argument(name, size), **stem_arguments(name, stem)}
    try:
        network: nn.Module = timm.create_model(name, num_classes=classes, **arguments)
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"model '{name}' for {classes} classes at {size}×{size} pixels: timm can't build it: {error}. "
            "Choose another model or another size."
        ) from error
    return shrink_stem(name, network) if stem == "small" else network


def memory_format(network: nn.Module) -> torch.memory_format:
    """channels_last, which is faster, except for nets whose backward pass would crash in it.

    PyTorch 2.15 on a CPU ends with a segmentation fault in the backward pass of a strided 1×1 convolution over an
    image's few channels (timm's repvgg_a0 begins with one).
    """
    crashes = any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels <= 4
        for module in network.modules()
    )
    return torch.contiguous_format if crashes else torch.channels_last


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _build(variant: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    from timm.models import build_model_with_cfg

    kwargs.pop("global_pool", None)  # timm's features_only passes it
    kwargs["pretrained_cfg"] = kwargs.get("pretrained_cfg") or PRETRAINED_CFG
    network: nn.Module = build_model_with_cfg(
        Airbench, variant, pretrained, feature_cfg={"out_indices": (0, 1, 2), "flatten_sequential": True}, **kwargs
    )
    return network


def _convolution(channels_in: int, channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight[: min(channels_in, channels)])  # begins near the identity
    return convolution


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, momentum=BATCH_NORM_MOMENTUM)
    norm.weight.requires_grad = False
    return norm


def _classifier(features: int, classes: int) -> nn.Module:
    return nn.Linear(features, classes, bias=False) if classes > 0 else nn.Identity()


def size_argument(name: str, size: int) -> dict[str, int]:
    """`img_size` for the models whose weights depend on the image's size (vision transformers and their like)."""
    import timm

    entrypoint: Callable[..., Any] = timm.model_entrypoint(name)
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    fixed = bool(cfg and getattr(cfg, "fixed_input_size", False))
    return {"img_size": size} if fixed or "img_size" in inspect.signature(entrypoint).parameters else {}


def _suggestion(name: str) -> str:
    import timm

    near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
    return f" Did you mean {', '.join(near)}?" if near else " `timm.list_models()` lists them."
