"""A gate's policy as a YAML file: what can't be meant is refused, and says where and what instead."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from flywheel.commands.output import stop
from flywheel.policies import GatePolicy

PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", "--POLICY", help="YAML: settings of the gate's policy; the others keep their defaults."),
]


def read_policy(file: Path | None) -> GatePolicy:
    """The policy of a YAML file; None is the default. Ends the command with what is wrong in it."""
    if file is None:
        return GatePolicy()
    settings = _settings(file)
    problems = _problems(settings)
    if problems:
        stop(f"{file}: {'; '.join(problems)}.")
    return GatePolicy.model_validate(settings)


def _settings(file: Path) -> dict[Any, Any]:
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        twice = _said_twice(yaml.compose(text, yaml.SafeLoader))
    except OSError as error:
        stop(f"{file}: a YAML file of gate settings expected; it can't be read ({error.strerror}).")
    except UnicodeDecodeError:
        stop(f"{file}: a YAML file of gate settings expected; it is no text in UTF-8.")
    except yaml.YAMLError as error:
        stop(f"{file}: a YAML file of gate settings expected; {_no_yaml(error)}.")
    if content is None or content == {}:
        stop(f"{file}: a setting expected, as in “margin: 0.02”; it is empty. The default policy needs no POLICY=.")
    if not isinstance(content, dict):
        stop(f"{file}: settings by name expected, as in “margin: 0.02”; {type(content).__name__} found.")
    if twice:
        stop(f"{file}: each setting once expected; said twice: {', '.join(twice)}.")
    return content


def _no_yaml(error: Exception) -> str:
    """PyYAML's problem with its line, without its drawing of the place."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = f"line {mark.line + 1}: " if mark else ""
    return where + " ".join(str(problem or error).split()).removeprefix("but ")


def _said_twice(node: Any) -> list[str]:
    """The names that a YAML mapping has more than once, with their lines: the last would win, unsaid."""
    keys = [key for key, _ in node.value] if getattr(node, "id", "") == "mapping" else []
    first: dict[str, Any] = {}
    return [
        f"{key.value} (lines {first[key.value].start_mark.line + 1} and {key.start_mark.line + 1})"
        for key in keys
        if first.setdefault(key.value, key) is not key
    ]


def _problems(settings: dict[Any, Any]) -> list[str]:
    """One clause for each setting that is none, or out of its range, or of another kind."""
    unknown = [name for name in settings if name not in GatePolicy.model_fields]
    found = [_unknown(str(name)) for name in unknown]
    known = {name: value for name, value in settings.items() if name not in unknown}
    return found + [
        f"{name}: {expected(name)} expected, {_shown(value)} found"
        for name, value in known.items()
        if not _fits(name, value)
    ]


def _unknown(name: str) -> str:
    names = list(GatePolicy.model_fields)
    near = get_close_matches(name.lower(), names, n=1)
    return f"{name}: no such setting, " + (f"{near[0]} perhaps" if near else f"these are: {', '.join(names)}")


def _fits(name: str, value: Any) -> bool:
    """A yes is no number, though it would be taken for 1."""
    if isinstance(value, bool) and GatePolicy.model_fields[name].annotation is not bool:
        return False
    try:
        GatePolicy.model_validate({name: value})
    except ValidationError:
        return False
    return True


def expected(name: str) -> str:
    """What a setting may be, in words: “a number above 0 and at most 0.5”."""
    field = GatePolicy.model_fields[name]
    if field.annotation is bool:
        return "true or false"
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    ends = [f"{words[end]} {getattr(limit, end):,}" for limit in field.metadata for end in words if hasattr(limit, end)]
    return f"{'a whole number, ' if field.annotation is int else 'a number '}{' and '.join(ends)}"


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
