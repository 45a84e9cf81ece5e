"""The flow parameters as command-line options: one option a field of the pydantic model, with its description."""

import argparse
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from flows.parameters import nested, options, refusals
from flywheel.presets import PRESETS
from flywheel.settings import TrainingParameters


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--preset`, and one option a parameter, which overrides the preset."""
    parser.add_argument(
        *("--preset", "--PRESET"),
        choices=list(PRESETS),
        default=next(iter(PRESETS)),
        help="a named set of parameters that the other options override (default: %(default)s)",
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "presets:\n" + "\n".join(
        f"  {preset.name}: {preset.command}\n    cost: {preset.cost}\n    expected: {preset.expected}"
        for preset in PRESETS.values()
    )
    add_fields(parser, TrainingParameters)


def add_fields(parser: argparse.ArgumentParser, model: type[BaseModel]) -> None:
    """One option a field, in any of the spellings that make and people use."""
    for name, (_, field) in options(model).items():
        default = "unset" if field.default in (None, "") else field.default
        choices = get_args(field.annotation)
        described = field.description or f"one of {', '.join(map(str, choices))}" if choices else field.description
        help_text = f"{described or ''} (default: {default})".strip().replace("%", "%%")
        spellings = [f"--{name.replace('_', '-')}", f"--{name}", f"--{name.upper()}"]
        parser.add_argument(*dict.fromkeys(spellings), dest=name, metavar="VALUE", help=help_text)


def given_fields(arguments: argparse.Namespace, model: type[BaseModel]) -> dict[str, Any]:
    """What was given, nested as the model is."""
    values = {name: getattr(arguments, name) for name in options(model)}
    return nested(model, {name: value for name, value in values.items() if value is not None})


def parameters_from(arguments: argparse.Namespace) -> TrainingParameters:
    """The options that were given, over the preset. Raises pydantic.ValidationError."""
    return PRESETS[arguments.preset].with_options(given_fields(arguments, TrainingParameters))


def explain(error: ValidationError, model: type[BaseModel] = TrainingParameters, program: str = "flows.run") -> str:
    """One line a bad field: its name, what was given, what is accepted."""
    lines = [f"{name.upper()}={given!r}: {expected}." for name, given, expected in refusals(model, error)]
    return "\n".join([*lines, f"Run 'make help' for the targets, 'python -m {program} --help' for every parameter."])
