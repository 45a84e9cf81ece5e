"""The form of approve-promotion, as the person who answers it meets it."""

import pytest
from pydantic import ValidationError

from flows.approval import Approval


def test_an_answer_has_a_name_and_a_reason_and_is_no_unless_yes_is_said() -> None:
    asked = Approval.with_initial_data(description="What the gate found.")
    form = asked.model_json_schema()
    assert sorted(form["required"]) == ["name", "reason"]
    assert form["properties"]["approve"]["default"] is False
    assert all(field["description"] for field in form["properties"].values())
    assert asked(name="Ada", reason="It is better.").approve is False
    for missing in ({"name": "", "reason": "It is better."}, {"name": "Ada", "reason": ""}, {"approve": True}):
        with pytest.raises(ValidationError):
            asked.model_validate(missing)
