"""A flow's pydantic model as flat parameters: in the Prefect form, and behind `prefect deployment run … -p`.

Prefect lays a run's parameters over the deployment's one by one, by their names at the top. So every field stands there
under its own name, and `-p epochs=2` overrides one value and leaves the others of the preset as they are. The fields
and their bounds are the model's: nothing is written twice.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

R = TypeVar("R")
M = TypeVar("M", bound=BaseModel)
BOUNDS = {"ge": "from {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
PATTERNS = {
    r"^$|\.safetensors$": "the path of a .safetensors file, or nothing",
    r"^$|^task-[0-9a-f]{12}$": "task- and 12 hex digits, or nothing",
    r"^$|^dec-[0-9a-f]{12}$": "dec- and 12 hex digits, or nothing",
}
NUMBERS = {int: "a whole number", float: "a number"}
OWN_CHECK = "value_error"  # pydantic's name for what a validator of ours raised


class ParameterError(ValueError):
    """Values that can't be meant; the message names each field, what was given, and what is accepted."""


def options(model: type[BaseModel]) -> dict[str, tuple[str | None, FieldInfo]]:
    """Option name → (section, field): a field of a nested model stands under its own name."""
    found: dict[str, tuple[str | None, FieldInfo]] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= {inner: (name, inner_field) for inner, inner_field in field.annotation.model_fields.items()}
        else:
            found[name] = (None, field)
    return found


def nested(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """Flat values as a document of the model's shape, for it to validate."""
    document: dict[str, Any] = {}
    for name, value in given.items():
        section = options(model)[name][0]
        (document if section is None else document.setdefault(section, {}))[name] = value
    return document


def flat(parameters: BaseModel) -> dict[str, Any]:
    """Every value of a model under its own name, as a flow and a deployment take them."""
    document = parameters.model_dump(mode="json")
    return {
        name: document[name] if section is None else document[section][name]
        for name, (section, _) in options(type(parameters)).items()
    }


def takes(model: type[M]) -> Callable[[Callable[[M], R]], Callable[..., R]]:
    """Make a function of one model a function of its fields. Calling it raises ParameterError where they can't be."""
    fields = options(model)

    def decorate(function: Callable[[M], R]) -> Callable[..., R]:
        def run(**given: Any) -> R:
            try:
                parameters = model.model_validate(nested(model, given))
            except ValidationError as error:  # what no form can check: one field against another
                said = (f"{name}={value!r}: {expected}." for name, value, expected in refusals(model, error))
                raise ParameterError(" ".join(said)) from None
            return function(parameters)

        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(run, name, getattr(function, name))
        parameters = [_parameter(name, field) for name, (_, field) in fields.items()]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def refusals(model: type[BaseModel], error: ValidationError) -> list[tuple[str, Any, str]]:
    """Each bad field's name, what was given, what is accepted."""
    return [
        (name, problem["input"], _expected(options(model).get(name, (None, None))[1], problem))
        for problem in error.errors()
        for name in [str(problem["loc"][-1])]
    ]


def _expected(field: FieldInfo | None, problem: ErrorDetails) -> str:
    """A number's whole range, where pydantic names only the bound that was passed; else what pydantic says."""
    said = problem["msg"].removeprefix("Value error, ")
    if problem["type"] != OWN_CHECK and field is not None and (text := accepted(field) or in_words(field)):
        return f"{text.removesuffix(', or null')} expected{', or none' if text.endswith(', or null') else ''}"
    return f"{said[0].lower()}{said[1:]}"


def in_words(field: FieldInfo) -> str:
    """What a text that may not be just any is asked to be; "" for every other field."""
    if field.annotation is not str or not field.metadata or not field.description:
        return ""
    return f"{field.description[0].lower()}{field.description[1:]}".rstrip(".")


def accepted(field: FieldInfo) -> str:
    """A number's range in words, `a whole number from 1 to 1000`, or a file's kind; "" for what has no bounds."""
    if pattern := _of_the_form(field).get("pattern"):
        return PATTERNS[str(pattern)]
    bounds = {
        name: text.format(f"{bound:g}" if isinstance(bound, float) else bound)
        for constraint in field.metadata
        for name, text in BOUNDS.items()
        if (bound := getattr(constraint, name, None)) is not None
    }
    kinds = get_args(field.annotation) or (field.annotation,)
    number = next((text for kind, text in NUMBERS.items() if kind in kinds), "")
    if not bounds or not number:
        return ""
    words = ", ".join(bounds.values())
    if bounds.keys() == {"ge", "le"}:
        words = words.replace(", at most", " to")
    elif bounds.keys() == {"ge"}:
        words += " up"
    return f"{number} {words}{', or null' if type(None) in kinds else ''}"


def _of_the_form(field: FieldInfo) -> dict[str, Any]:
    """What only the form asks for."""
    return dict(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    annotation: Any = field.annotation
    if field.metadata:
        annotation = Annotated[(annotation, *field.metadata)]
    described, extra = field.description or "", {}
    if text := accepted(field):
        described = f"{described} {text[0].upper()}{text[1:]}."
    if text := text or in_words(field):
        # a bound alone would be refused as "0 is less than the minimum of 1", which leaves the other one to be guessed
        document = {**TypeAdapter(annotation).json_schema(), **_of_the_form(field)}
        extra = {"if": document, "else": {"enum": [text]}}
    default = ... if field.is_required() else field.default
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=Field(default=default, description=described, json_schema_extra=extra),
        annotation=annotation,
    )
