"""Prefect keeps the records of finished stages, which are `Cached` in the UI and in a run that is retried.

A record is ids, paths and numbers, as JSON below `PREFECT_RESULTS_LOCAL_STORAGE_PATH`, under the hash of the stage's
inputs; what it tells of lies elsewhere. The manifests there decide. A record is taken only where what is found on disk
now is what it says, so a stage whose folder was deleted, damaged or made anew runs, whatever is remembered.
"""

import inspect
import logging
import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.results import get_result_store

from flywheel.identity import digest
from flywheel.records import to_json
from flywheel.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")
CACHED = "Cached"  # the name of Prefect's state
KEEPING = {"persist_result": True, "result_serializer": "json"}
log = logging.getLogger(__name__)


def kept(made: Task[P, R], find: Callable[P, R | None], when_cached: Callable[..., object]) -> Callable[P, R]:
    """The stage, skipped where its record and what `find` sees on disk are one.

    `when_cached` is called then with the wall time, the record and the stage's arguments.
    """
    signature = inspect.signature(made.fn)
    policy = CacheKeyFnPolicy(cache_key_fn=lambda _, inputs: identity(made.name, inputs))
    keeping = made.with_options(cache_policy=policy, **KEEPING)
    making = keeping.with_options(refresh_cache=True)

    @wraps(made.fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        start = time.monotonic()
        found = _find(find, *args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        is_known = found is not None and found == _remembered(keeping, identity(made.name, bound.arguments))
        state = (keeping if is_known else making)(*args, **kwargs, return_state=True)
        result: R = state.result()
        if state.name == CACHED:
            when_cached(time.monotonic() - start, result, *args, **kwargs)
        return result

    return run


def identity(stage: str, inputs: Mapping[str, Any]) -> str:
    """The key of a stage's record: its name, its inputs, which hold the ids of their content, and whose home it is."""
    contents = {name: to_json(value) for name, value in inputs.items()}
    return digest([stage, str(Settings().paths.home), contents])


def _find(find: Callable[P, R | None], *args: P.args, **kwargs: P.kwargs) -> R | None:
    try:
        return find(*args, **kwargs)
    except (OSError, ValueError, RuntimeError) as error:  # the stage itself says it again, as its own failure
        log.debug("nothing found: %s", error)
        return None


def _remembered(task: Task[..., R], key: str) -> R | None:
    """The record under a key; one that can't be read is none."""
    try:
        store = get_result_store().update_for_task(task)
        return store.read(key).result if store.exists(key) else None
    except (OSError, ValueError) as error:
        log.debug("%s: no record: %s", task.name, error)
        return None
