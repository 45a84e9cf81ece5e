"""The flow parameters as command-line options: one option a field of the pydantic model, with its description."""

import argparse
from typing import get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flows.parameters import accepted, nested, options
from flywheel.presets import PRESETS
from flywheel.settings import TrainingParameters

OWN_CHECK = "value_error"  # pydantic's name for what a validator of ours raised


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
    for name, (_, field) in options(TrainingParameters).items():
        default = "unset" if field.default in (None, "") else field.default
        choices = get_args(field.annotation)
        described = field.description or f"one of {', '.join(map(str, choices))}" if choices else field.description
        help_text = f"{described or ''} (default: {default})".strip().replace("%", "%%")
        spellings = [f"--{name.replace('_', '-')}", f"--{name}", f"--{name.upper()}"]
        parser.add_argument(*dict.fromkeys(spellings), dest=name, metavar="VALUE", help=help_text)


def parameters_from(arguments: argparse.Namespace) -> TrainingParameters:
    """The options that were given, over the preset. Raises pydantic.ValidationError."""
    values = {name: getattr(arguments, name) for name in options(TrainingParameters)}
    given = {name: value for name, value in values.items() if value is not None}
    return PRESETS[arguments.preset].with_options(nested(TrainingParameters, given))


def explain(error: ValidationError) -> str:
    """One line a bad field: its name, what was given, what is accepted."""
    lines = [
        f"{str(problem['loc'][-1]).upper()}={problem['input']!r}: {_expected(problem)}." for problem in error.errors()
    ]
    return "\n".join([*lines, "Run 'make help' for the targets, 'python -m flows.run --help' for every parameter."])


def _expected(problem: ErrorDetails) -> str:
    """A number's whole range, where pydantic names only the bound that was passed; else what pydantic says."""
    _, field = options(TrainingParameters).get(str(problem["loc"][-1]), (None, None))
    said = problem["msg"].removeprefix("Value error, ")
    if problem["type"] != OWN_CHECK and field is not None and (text := accepted(field)):
        return f"{text.removesuffix(', or null')} expected{', or none' if text.endswith(', or null') else ''}"
    return f"{said[0].lower()}{said[1:]}"
