"""A model beside the champion, begun and ended as a user types it."""

from flywheel.ledger.predictions import Role
from flywheel.records import Verdict


def test_a_canary_begins_and_ends(at_home, home):
    champion, other = home.promoted("first"), home.model("second")
    begun = at_home("canary", "--MODEL", other, "--SHARE", "0.2", "--REASON", "try it")
    assert begun.exit_code == 0, begun.output
    assert f"{other} answers 20% of the requests beside {champion}" in begun.output
    trial = home.predictions.trial(home.version.task_id)
    assert (trial.model_id, trial.role, trial.share, trial.reason) == (other, Role.CANARY, 0.2, "try it")
    assert trial.bento_tag == home.tag(other)
    ended = at_home("end-trial")
    assert f"{other} is no longer canary" in ended.output
    assert home.predictions.trial(home.version.task_id) is None
    assert "no model is on trial" in at_home("end-trial").output


def test_a_model_that_failed_its_gate_may_only_look_on(at_home, home):
    home.promoted("first")
    failed = home.model("second", Verdict.FAIL)
    refused = at_home("canary", "--MODEL", failed)
    assert refused.exit_code == 1
    assert "answers no client" in refused.output
    assert at_home("shadow", "--MODEL", failed).exit_code == 0
    assert home.predictions.trial(home.version.task_id).role is Role.SHADOW


def test_what_cannot_go_on_trial_is_refused(at_home, home):
    champion = home.promoted("first")
    assert "is the champion" in at_home("shadow", "--MODEL", champion).output
    assert "Which model?" in at_home("canary").output
    assert at_home("canary", "--MODEL", "model-000000000000").exit_code == 1
    assert at_home("canary", "--MODEL", home.model("second"), "--SHARE", "7").exit_code == 2
    assert home.predictions.trial(home.version.task_id) is None
