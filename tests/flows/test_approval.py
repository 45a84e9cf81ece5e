"""The form of approve-promotion, as the person who answers it meets it."""

import pytest
from prefect._internal.pydantic.v2_schema import create_v2_schema
from pydantic import ValidationError

from flows.approval import Approval


def test_an_answer_has_a_name_and_a_reason_and_is_no_unless_yes_is_said() -> None:
    asked = Approval.with_initial_data(description="What the gate found.")
    form = create_v2_schema(asked.__name__, model_base=asked)  # what Prefect keeps for its UI
    assert form["required"] == ["approve", "name", "reason"], "what is not is called optional by the form"
    assert form["properties"]["approve"]["default"] is False
    assert all(field["description"] for field in form["properties"].values())
    assert asked(name="Ada", reason="It is better.").approve is False
    for missing in ({"name": "", "reason": "It is better."}, {"name": "Ada", "reason": ""}, {"approve": True}):
        with pytest.raises(ValidationError):
            asked.model_validate(missing)
