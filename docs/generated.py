"""Tables of these pages that are read from the code when they are built, so that they can't grow old.

Each MyST directive here takes the name of a thing and becomes a Markdown table of it:
`fields` (a pydantic model), `expectations` (a suite), `stages` (tasks/stages.py), `routes` (the service), `results` (a
table of a benchmark's figures). The role `figure` writes one of them into a line.
"""

import ast
import importlib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, get_args, get_origin

from docutils import nodes
from docutils.statemachine import StringList
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sphinx.util.docutils import SphinxDirective, SphinxRole

from benchmarks.results import read_figures, rows_of
from flywheel.policies import WindowPolicy
from flywheel.settings import PROJECT, DataParameters

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation
    from sphinx.application import Sphinx

BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "min_length": "{} characters or more"}
KIND_NAMES = {"int": "whole number", "float": "number", "str": "text", "bool": "true or false", "Path": "path"}
KIND_NAMES |= {"NoneType": "`all`"}
METHODS = ("get", "post")
EXAMPLE_CLASSES, EXAMPLE_SPLITS = ("cat", "dog"), ("test", "train", "val")


def fields_table(name: str) -> str:
    """A pydantic model's fields: how each is given, what it accepts, its default, what it means."""
    model = _model(name)
    prefix = str(model.model_config.get("env_prefix", ""))
    rows = [
        (f"`{(prefix + field_name).upper()}`", _accepted(field), _default(field), field.description or "")
        for field_name, field in model.model_fields.items()
        if not _is_section(field)
    ]
    return _table(("Name", "Accepts", "Default", "Meaning"), rows)


def expectations_table(suite: str) -> str:
    """A suite's expectations, as for two classes and, where a source has splits, three of them."""
    rows = [
        (str(one.description), _subject(one), *_weight(one), str((one.meta or {})["next_step"]))
        for one in suite_expectations(suite)
    ]
    return _table(("Expectation", "Looks at", "Level", "Severity", "Next step"), rows)


def suite_expectations(suite: str) -> tuple["Expectation", ...]:
    """The real suites; their thresholds are the defaults."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # it tells of hundreds of its own methods
    from expectations.images import images_suite
    from expectations.labels import labels_suite
    from expectations.predictions import Expected, predictions_suite
    from expectations.splits import splits_suite

    if suite == "images":
        return images_suite(EXAMPLE_CLASSES, EXAMPLE_SPLITS, DataParameters()).expectations
    if suite == "labels":
        return labels_suite(EXAMPLE_CLASSES).expectations
    if suite == "predictions":
        return predictions_suite(Expected(len(EXAMPLE_CLASSES), 0.0, 100.0), WindowPolicy()).expectations
    return splits_suite(EXAMPLE_CLASSES, {"train": 1}).expectations


def stages_table(_: str) -> str:
    """The stages of the flows, in the order of their functions. Read, not imported: that would start Prefect."""
    rows = [(f"`{name}`", told) for name, told in stages()]
    return _table(("Stage", "What it does"), rows)


def stages() -> list[tuple[str, str]]:
    tree = ast.parse((PROJECT / "tasks" / "stages.py").read_text(encoding="utf-8"))
    found = []
    for node in tree.body:
        for decorator in getattr(node, "decorator_list", []):
            if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "stage":
                text = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
                found.append((ast.literal_eval(decorator.args[0]), " ".join((text or "").split())))
    return found


def routes_table(_: str) -> str:
    """The service's own routes, from its OpenAPI document."""
    from bentos.classifier.app import make_app
    from bentos.classifier.classifying import Classifying
    from bentos.classifier.settings import ServiceSettings
    from bentos.classifier.worker import Worker

    def no_worker() -> Worker:
        raise RuntimeError("only the description is asked for")

    paths = make_app(Classifying(no_worker, ServiceSettings(workers=1))).openapi()["paths"]
    rows = [
        (f"`{method.upper()} {path}`", operation["description"], ", ".join(sorted(operation["responses"])))
        for path, operations in paths.items()
        for method, operation in operations.items()
        if method in METHODS
    ]
    return _table(("Route", "What it answers", "Statuses"), rows)


def results_table(argument: str) -> str:
    """“<benchmark> <figure> [<row>]: <title>, …”: a table of kept figures, the titles those of the columns that name a
    row. With a row's name, only rows of that name, and it is left out."""
    which, _, titles = argument.partition(":")
    benchmark, figure, *chosen = which.split(maxsplit=2)
    rows = {row: cells for row, cells in rows_of(read_figures(benchmark)[figure]).items() if set(chosen) <= set(row)}
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    head = (*(title.strip() for title in titles.split(",")), *columns)
    return _table(
        head,
        [
            (*(name for name in row if name not in chosen), *(_number(cells.get(column)) for column in columns))
            for row, cells in rows.items()
        ],
    )


def _number(value: "float | dict[str, float] | None") -> str:
    """A measure with an interval has it in brackets."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return f"{_number(value['value'])} [{_number(value['low'])}, {_number(value['high'])}]"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _model(name: str) -> type[BaseModel]:
    module, _, attribute = name.rpartition(".")
    model: type[BaseModel] = getattr(importlib.import_module(module), attribute)
    return model


def _is_section(field: FieldInfo) -> bool:
    """A nested model has a table of its own."""
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _accepted(field: FieldInfo) -> str:
    choices = [str(choice) for choice in get_args(field.annotation) if isinstance(choice, str)]
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if isinstance(kind, type)]
    if get_origin(field.annotation) is not None and not kinds:
        return str(field.annotation)
    named = " or ".join(KIND_NAMES.get(kind.__name__, kind.__name__) for kind in kinds)
    return ", ".join([named, *_bounds(field)])


def _bounds(field: FieldInfo) -> Iterable[str]:
    for limit in field.metadata:
        if pattern := getattr(limit, "pattern", None):
            yield f"of the form `{pattern}`"
        for name, told in BOUNDS.items():
            if (value := getattr(limit, name, None)) is not None:
                yield told.format(f"{value:,}" if name != "min_length" else value)


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "by the machine"
    if field.default is PydanticUndefined:
        return "must be given"
    if field.default == PROJECT:
        return "the project's folder"
    return {None: "all", "": "empty"}.get(field.default, f"`{field.default}`")


def _subject(one: "Expectation") -> str:
    column = getattr(one, "column", None)
    rows = getattr(one, "row_condition", None)
    where = f", where `{getattr(rows, 'pass_through_filter', rows)}`" if rows else ""
    return (f"column `{column}`" if column else "the table") + where


def _weight(one: "Expectation") -> tuple[str, str]:
    level = str((one.meta or {})["level"])
    severity = getattr(one.severity, "value", str(one.severity))
    return level, "quarantine" if level == "row" else severity


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """Markdown of a text: `<class>` is no HTML; in code nothing but the bar between cells has a meaning."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if place % 2 else part.replace("<", "\\<") for place, part in enumerate(parts))


class _Generated(SphinxDirective):
    """Becomes the Markdown that `make` writes about the directive's argument."""

    optional_arguments = 1
    final_argument_whitespace = True
    make: ClassVar[Any]

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # the code behind it is no file that Sphinx watches
        text = type(self).make(self.arguments[0] if self.arguments else "")
        node = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), "generated.py"), self.content_offset, node)
        return node.children


TABLES = {
    "fields": fields_table,
    "expectations": expectations_table,
    "stages": stages_table,
    "routes": routes_table,
    "results": results_table,
}


class _Figure(SphinxRole):
    """`<benchmark> <figure>`: one kept figure, in the line."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        self.env.note_reread()
        benchmark, figure = self.text.split()
        return [nodes.Text(_number(read_figures(benchmark)[figure]))], []


def setup(app: "Sphinx") -> dict[str, bool]:
    for name, make in TABLES.items():
        app.add_directive(name, type(name, (_Generated,), {"make": staticmethod(make)}))
    app.add_role("figure", _Figure())
    return {"parallel_read_safe": True}
