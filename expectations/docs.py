"""The pages that a person reads in `reports/data_docs`: what each suite found, without a network and without a script.

A page is our own summary (severity as it was decided, first offending files) above Great Expectations' Data Docs of the
same result. Theirs load libraries from content networks, so offline they are unstyled and their index is empty, and
they don't escape values: a file's name could be a script. So values are escaped before they are rendered, everything
external is taken out, one small stylesheet (`docs.css`) goes in, and a policy in the page forbids the rest.
"""

import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.records import ExpectationResult, Severity, ValidationResult

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

STYLE = Path(__file__).with_name("docs.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
UNWANTED = (
    r"<script\b.*?</script\s*>",
    r"<footer\b.*?</footer\s*>",
    r"<nav\b.*</nav\s*>",
    r"<img\b[^>]*>",
    r"<link\b[^>]*>",
    r"""\son\w+="[^"]*\"""",
    r"""\shref="[^"]*\"""",
)


def page(validation: ValidationResult, found: "ExpectationSuiteValidationResult") -> str:
    """The HTML page of one validation."""
    title = f"{validation.suite} of {validation.subject}"
    body = (
        f'<p><a href="index.html">All validations</a></p>\n<h1>{html.escape(title)}</h1>\n{_summary(validation)}\n'
        f"<h2>As Great Expectations tells it</h2>\n{_rendered(found)}"
    )
    return _document(title, body)


def index_page(validations: Iterable[tuple[str, ValidationResult]]) -> str:
    """The page that lists all validations: (file name of its page, result) each."""
    rows = "\n".join(
        f'<tr><td>{_status(one)}</td><td><a href="{html.escape(name)}">{html.escape(one.subject)}</a></td>'
        f'<td>{html.escape(one.suite)}</td><td class="number">{len(one.results)}</td>'
        f'<td class="number">{len(one.failed(Severity.CRITICAL))}</td>'
        f'<td class="number">{len(one.failed(Severity.WARNING))}</td></tr>'
        for name, one in validations
    )
    head = "".join(f"<th>{name}</th>" for name in ("", "Subject", "Suite", "Expectations", "Critical", "Warnings"))
    body = f"<h1>Validations</h1>\n<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"
    return _document("Validations", body)


def _document(title: str, body: str) -> str:
    style = STYLE.read_text(encoding="utf-8")
    return DOCUMENT.format(policy=html.escape(POLICY), title=html.escape(title), style=style, body=body)


def _summary(validation: ValidationResult) -> str:
    ranked = sorted(validation.results, key=lambda one: (one.success, one.severity is not Severity.CRITICAL))
    rows = "\n".join(_row(result) for result in ranked)
    head = "".join(f"<th>{name}</th>" for name in ("", "Expectation", "Column", "Found", "First files", "What to do"))
    return f"<p>{_status(validation)}</p>\n<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"


def _row(result: ExpectationResult) -> str:
    mark = '<span class="good">passed</span>'
    if not result.success:
        mark = f'<span class="{"bad" if result.severity is Severity.CRITICAL else "warn"}">{result.severity}</span>'
    files = "<br>".join(f"<code>{html.escape(name)}</code>" for name in result.examples)
    column = f'<td class="column">{html.escape(result.subject)}</td>'
    texts = f"<td>{html.escape(result.description)}</td>{column}<td>{html.escape(result.observed)}</td>"
    step = "" if result.success else html.escape(result.next_step)
    return f'<tr><td>{mark}</td>{texts}<td class="files">{files}</td><td>{step}</td></tr>'


def _status(validation: ValidationResult) -> str:
    if not validation.passed:
        return '<span class="bad">stopped</span>'
    if validation.failed(Severity.WARNING):
        return '<span class="warn">passed with warnings</span>'
    return '<span class="good">passed</span>'


def _rendered(found: "ExpectationSuiteValidationResult") -> str:
    """The body of Great Expectations' own page, made safe and free of anything external."""
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResultSchema
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    safe = ExpectationSuiteValidationResultSchema().load(_escaped(found.to_json_dict()))
    rendered = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(safe))
    body = re.search(r"<body\b[^>]*>(.*)</body\s*>", rendered, re.DOTALL | re.IGNORECASE)
    text = body.group(1) if body else ""
    for pattern in UNWANTED:
        text = re.sub(pattern, "", text, flags=re.DOTALL | re.IGNORECASE)
    return text


def _escaped(content: Any) -> Any:
    """All texts of a JSON document, safe inside HTML and inside a `$`-template."""
    if isinstance(content, str):
        return html.escape(content).replace("$", "&#36;")
    if isinstance(content, dict):
        return {key: _escaped(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_escaped(value) for value in content]
    return content
