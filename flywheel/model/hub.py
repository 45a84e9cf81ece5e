"""Weights from the Hugging Face hub: its local cache first, then a download that does not wait for a silent host."""

from pathlib import Path

from flywheel.hosts import why_silent
from flywheel.model.folder import ModelError

# The hub's own client tries for 48 s before it gives up.
SECONDS_TO_ANSWER = 5.0
# where every other program keeps it; the project's own is HF_HOME, in .flywheel/
USERS_CACHE = Path("~/.cache/huggingface/hub")


def hub_file(repository: str, name: str) -> Path:
    """The file of a hub repository, from the local cache, the project's or the user's, or downloaded.

    Raises ModelError within seconds where it is in no cache and the hub is out of reach.
    """
    import httpx
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    for cache in (constants.HF_HUB_CACHE, USERS_CACHE.expanduser()):
        if isinstance(cached := try_to_load_from_cache(repository, name, cache_dir=cache), str):
            return Path(cached)
    if constants.HF_HUB_OFFLINE:
        raise _out_of_reach(repository, name, "HF_HUB_OFFLINE is set")
    if problem := why_silent(f"{constants.ENDPOINT}/{repository}/resolve/main/{name}", SECONDS_TO_ANSWER):
        raise _out_of_reach(repository, name, problem)
    try:
        return Path(hf_hub_download(repository, name))
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise _out_of_reach(repository, name, str(error).partition("\n")[0] or type(error).__name__) from error


def _out_of_reach(repository: str, name: str, problem: str) -> ModelError:
    from huggingface_hub import constants

    return ModelError(
        f"pretrained weights {repository}/{name}: in no local cache ({constants.HF_HUB_CACHE}, {USERS_CACHE}), and "
        f"{constants.ENDPOINT} gave none: {problem}. Name a file of your own with WEIGHTS=file.safetensors, or copy "
        "the cache's folder from a machine that has them."
    )
