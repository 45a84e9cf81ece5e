"""Schemathesis on the service's own OpenAPI document: what it says is what happens, and nothing is a 5xx."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from tests.bentos.classifier.test_feedback import client, url

__all__ = ["client", "url"]  # the fixtures

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
OPERATIONS = {
    "POST /classify": 60,
    "POST /classify_batch": 60,
    "POST /feedback": 60,
    "GET /queue": 20,
    "GET /queue/{prediction_id}/image": 20,
    "GET /model": 3,
}


@pytest.fixture
def document(client):
    return schemathesis.openapi.from_asgi("/openapi.json", client.app)


def test_every_operation_is_tried(document):
    found = {f"{each.ok().method.upper()} {each.ok().path}" for each in document.get_all_operations()}
    assert found == set(OPERATIONS)


def test_the_document_is_valid_and_says_what_the_border_answers(document):
    document.validate()
    for each in document.get_all_operations():
        operation = each.ok()
        assert {"401", "403", "413", "429"} <= set(operation.definition.raw["responses"]), operation.path


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_document_is_kept(document, name):
    method, path = name.split()
    operation = document[path][method]
    seen = []

    @given(case=operation.as_strategy())
    @settings(
        max_examples=OPERATIONS[name],
        deadline=None,
        database=None,
        phases=[Phase.generate],
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def keeps(case):
        seen.append(case.call_and_validate(checks=CHECKS).status_code)

    keeps()
    assert len(seen) >= min(OPERATIONS[name], 2) - 1
