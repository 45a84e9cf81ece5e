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

R = TypeVar("R")
M = TypeVar("M", bound=BaseModel)
BOUNDS = {"ge": "from {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
PATTERNS = {r"^$|\.safetensors$": "the path of a .safetensors file, or nothing"}
NUMBERS = {int: "a whole number", float: "a number"}


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


class ParameterError(ValueError):
    """Values that can't be meant; the message names each field, what was given, and what is accepted."""


def said(error: ValidationError) -> str:
    """In one line, which Prefect shows as a run's reason."""
    told = [(str(each["loc"][-1]), each["input"], each["msg"].removeprefix("Value error, ")) for each in error.errors()]
    return "; ".join(f"{name}={given!r}: {message}" for name, given, message in told) + "."


def takes(model: type[M]) -> Callable[[Callable[[M], R]], Callable[..., R]]:
    """Make a function of one model a function of its fields. Calling it raises ParameterError where they can't be."""
    fields = options(model)

    def decorate(function: Callable[[M], R]) -> Callable[..., R]:
        def run(**given: Any) -> R:
            try:
                parameters = model.model_validate(nested(model, given))
            except ValidationError as error:  # what no form can check: one field against another
                raise ParameterError(said(error)) from error
            return function(parameters)

        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(run, name, getattr(function, name))
        parameters = [_parameter(name, field) for name, (_, field) in fields.items()]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


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
