"""A network that begins with the weights of a file: every tensor is accounted for, and only safetensors are read.

Where names and shapes are the network's own, they are copied. Where they are not, timm adapts them (a transformer's
position embeddings to another size, another stem); what fits in neither way is an error that names the first tensors.
"""

import logging
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from flywheel.model.architecture import create, size_argument
from flywheel.model.folder import ModelError
from flywheel.model.stems import shrink_stem, stem_arguments
from flywheel.records import InitialWeights

logger = logging.getLogger(__name__)

SHOWN = 3  # mismatches in an error
COUNTER = "num_batches_tracked"  # of batch norms; older files don't have it


def create_from(weights: InitialWeights, name: str, classes: int, size: int, stem: str = "stock") -> nn.Module:
    """The network for float32[N, 3, size, size] with the file's weights.

    A head of another class count is replaced by a new one, drawn from torch's global generator. Raises ModelError where
    the file's tensors are not the model's.
    """
    tensors = load_file(weights.file)
    if broken := [name for name, value in tensors.items() if not bool(value.isfinite().all())]:
        more = " …" if len(broken) > 1 else ""
        raise ModelError(
            f"{weights.file}: numbers expected, {len(broken)} tensors hold NaN or infinite ones ({broken[0]}{more}). "
            "Take another file of weights."
        )
    network = create(name, classes, size, stem)
    head = head_names(network)
    problems = _mismatches(network, tensors, head)
    found = _classes_in(tensors, head)
    if problems:
        network = _adapted(weights, name, classes, size, stem, tensors, found, problems)
    else:
        new_head = any(tensors[key].shape != network.state_dict()[key].shape for key in head if key in tensors)
        kept = tensors if not new_head else {key: value for key, value in tensors.items() if key not in head}
        network.load_state_dict(kept, strict=False)  # all but the head and counters was compared above
    _say(weights, name, classes, found)
    return network


def head_names(network: nn.Module) -> frozenset[str]:
    """The names of the classifier's parameters."""
    heads = network.get_classifier()  # type: ignore[operator]
    wanted = {id(p) for head in (heads if isinstance(heads, tuple | list) else (heads,)) for p in head.parameters()}
    return frozenset(name for name, parameter in network.named_parameters() if id(parameter) in wanted)


def _mismatches(network: nn.Module, tensors: dict[str, Tensor], head: frozenset[str]) -> list[str]:
    wanted = {name: value.shape for name, value in network.state_dict().items() if name not in head}
    wrong = [
        f"{name}: {list(shape)} expected, {list(tensors[name].shape)} found"
        for name, shape in wanted.items()
        if name in tensors and tensors[name].shape != shape
    ]
    missing = [f"{name}: missing" for name in wanted if name not in tensors and not name.endswith(COUNTER)]
    unknown = [f"{name}: not the model's" for name in tensors if name not in wanted and name not in head]
    return wrong + missing + unknown


def _classes_in(tensors: dict[str, Tensor], head: frozenset[str]) -> int:
    """The classes that the file's head answers with; 0 where it has none."""
    return next((len(tensors[name]) for name in sorted(head) if name in tensors), 0)


def _adapted(
    weights: InitialWeights,
    name: str,
    classes: int,
    size: int,
    stem: str,
    tensors: dict[str, Tensor],
    found: int,
    problems: list[str],
) -> nn.Module:
    """timm's own way in, strict: the network as the file has it, then its stem and its head as they are asked for."""
    import timm

    overlay: dict[str, Any] = {"state_dict": dict(tensors), "num_classes": found, "label_offset": 0}
    arguments = {**size_argument(name, size), **stem_arguments(name, stem)}
    try:
        network: nn.Module = timm.create_model(
            name, pretrained=True, num_classes=found, pretrained_cfg_overlay=overlay, **arguments
        )
    except Exception as error:  # timm's filters fail in any way on tensors of another model
        listed = "; ".join(problems[:SHOWN])
        raise ModelError(
            f"{weights.file}: the weights of '{name}' expected, {len(problems)} tensors don't fit: {listed}. "
            "Name the model that they belong to with MODEL, or leave STEM out."
        ) from error
    if stem == "small":
        network = shrink_stem(name, network)
    if found != classes:
        network.reset_classifier(classes)  # type: ignore[operator]
    return network


def _say(weights: InitialWeights, name: str, classes: int, found: int) -> None:
    if found == classes:
        logger.info("%s begins with %s, its head of %d classes included", name, weights.origin, found)
    else:
        had = f"its head of {found:,} classes" if found else "the head that it lacks"
        logger.info("%s begins with %s; %s is replaced by a new one of %d", name, weights.origin, had, classes)
