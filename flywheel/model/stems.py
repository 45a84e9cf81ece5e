"""Stems for small images: the first layers of a net made for 224 pixels would leave little of an image of 32.

Nets whose stem is a parameter are built with another one; of the others the first convolution loses its stride, or is
replaced. A replaced 7×7 convolution gives its centre to the 3×3 one, so pretrained weights are of use still.
"""

from typing import Any

import torch
from torch import nn

from flywheel.model.folder import ModelError

# by the module of timm that builds the net
ARGUMENTS: dict[str, dict[str, Any]] = {
    "vision_transformer": {"patch_size": 4},
    "deit": {"patch_size": 4},
    "swin_transformer": {"patch_size": 2, "window_size": 4},
    "convnext": {"patch_size": 1},
}
KERNEL = 3


def stem_arguments(name: str, stem: str) -> dict[str, Any]:
    """What `timm.create_model` is told; empty for the stock stem and for nets that are changed afterwards."""
    import timm

    family = timm.model_entrypoint(name).__module__.rpartition(".")[2]
    return ARGUMENTS.get(family, {}) if stem == "small" else {}


def shrink_stem(name: str, network: nn.Module) -> nn.Module:
    """The net with its first convolution at full resolution. Raises ModelError where no way is known.

    ResNets also lose the pooling behind a 7×7 convolution; a deep stem of three convolutions keeps it.
    """
    if stem_arguments(name, "small") or hasattr(network, "fit_stem"):
        return network  # built for small images already
    conv1, conv_stem = getattr(network, "conv1", None), getattr(network, "conv_stem", None)
    if isinstance(conv1, nn.Conv2d) and hasattr(network, "maxpool"):
        network.conv1 = _small(conv1)
        network.maxpool = nn.Identity()
    elif isinstance(conv1, nn.Sequential) and isinstance(conv1[0], nn.Conv2d):
        conv1[0].stride = (1, 1)
    elif isinstance(conv_stem, nn.Conv2d):
        conv_stem.stride = (1, 1)
    else:
        raise ModelError(
            f"model '{name}': a stem for small images is known for ResNets, EfficientNets, MobileNetV3, ViT, DeiT, "
            "Swin and ConvNeXt, not for it. Leave STEM out and try a larger SIZE."
        )
    return network


def _small(convolution: nn.Conv2d) -> nn.Conv2d:
    small = nn.Conv2d(convolution.in_channels, convolution.out_channels, KERNEL, padding=KERNEL // 2, bias=False).to(
        convolution.weight.device
    )
    border = (convolution.kernel_size[0] - KERNEL) // 2
    with torch.no_grad():
        small.weight.copy_(convolution.weight[:, :, border : border + KERNEL, border : border + KERNEL])
    return small
