"""Which file a training begins with, and how its images were prepared: found once, before the data is touched.

The weights' own configuration is, in this order, the `model.json` of a flywheel model or the `config.json` of timm
beside the file, and what timm knows of the name.
"""

import json
from pathlib import Path
from typing import Any

from flywheel.data.decode import FILTERS
from flywheel.identity import digest_of_file
from flywheel.model.folder import MANIFEST, ModelError, read_model
from flywheel.model.hub import hub_file
from flywheel.records import InitialWeights, Preprocessing
from flywheel.settings import DEFAULT_FILTER, DataParameters, Recipe

HUB_FILE = "model.safetensors"
TIMM_CONFIG = "config.json"


def find_initial_weights(recipe: Recipe) -> InitialWeights | None:
    """The recipe's file, checked to be safetensors and hashed; None for weights that are drawn by the seed.

    Raises ModelError where timm has no such model or no weights for it, the hub is out of reach, or the file is none.
    """
    if not recipe.begins_with_weights:
        return None
    if recipe.weights:  # first, as it needs neither timm nor a network
        _demand_safetensors(Path(recipe.weights).expanduser().absolute())
    from flywheel.model.architecture import demand_known

    demand_known(recipe.model)
    if recipe.weights:
        file = Path(recipe.weights).expanduser().absolute()
        origin = file.name
    else:
        file = _from_hub(recipe.model)
        origin = f"{file.parents[2].name.removeprefix('models--').replace('--', '/')}@{file.parent.name}"
        _demand_safetensors(file)
    return InitialWeights(file, digest_of_file(file), origin, _configuration(recipe.model, file))


def pack_for(parameters: DataParameters, weights: InitialWeights | None) -> DataParameters:
    """The parameters with size and filter as plain values: the user's, else the weights' own, else the defaults."""
    asked = weights.preprocessing if weights else None
    size = parameters.size or (asked.size if asked else parameters.packed_size)
    chosen = parameters.filter or (asked.filter if asked else parameters.packed_filter)
    return DataParameters.model_validate({**parameters.model_dump(), "size": size, "filter": chosen})


def _from_hub(name: str) -> Path:
    import timm

    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if cfg is None or not cfg.hf_hub_id:
        raise ModelError(
            f"model '{name}': pretrained weights expected, timm names none. Give a file with WEIGHTS=file.safetensors, "
            "or leave PRETRAINED out."
        )
    own_name = cfg.hf_hub_filename or HUB_FILE
    # open_clip's weights stand beside their pickle under a name without its "pytorch"
    safe = own_name.replace("open_clip_pytorch_model", "open_clip_model")
    return hub_file(cfg.hf_hub_id, str(Path(safe).with_suffix(".safetensors")))


def _demand_safetensors(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        found = "a folder" if file.is_dir() else "none"
        raise ModelError(f"{file}: a file of weights expected, {found} found. Name it with WEIGHTS=file.safetensors.")
    try:
        with safe_open(file, "pt") as opened:
            if not opened.keys():
                raise ModelError(f"{file}: tensors expected, none found.")
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{file}: weights as safetensors expected, unreadable as such ({error}). A .pth or .bin file is a pickle, "
            "which can run code, and isn't loaded: convert it with safetensors.torch.save_file where you trust it."
        ) from error


def _configuration(name: str, file: Path) -> Preprocessing | None:
    if (file.parent / MANIFEST).is_file() and (model := read_model(file.parent)).architecture == name:
        return model.preprocessing
    cfg = _config_beside(name, file) or _timms(name)
    if not {"input_size", "mean", "std"} <= cfg.keys():
        return None
    chosen = str(cfg.get("interpolation") or DEFAULT_FILTER)
    mean, std = ((float(r), float(g), float(b)) for r, g, b in (cfg["mean"], cfg["std"]))
    # timm trained some models with a filter drawn for each image
    return Preprocessing(int(cfg["input_size"][-1]), chosen if chosen in FILTERS else DEFAULT_FILTER, mean, std)


def _config_beside(name: str, file: Path) -> dict[str, Any]:
    """timm's `config.json` as it lies on the hub, if it is of this architecture."""
    try:
        document = json.loads((file.parent / TIMM_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(document, dict) or document.get("architecture") != name.partition(".")[0]:
        return {}
    return dict(document.get("pretrained_cfg") or document)


def _timms(name: str) -> dict[str, Any]:
    import timm

    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return cfg.to_dict() if cfg else {}
