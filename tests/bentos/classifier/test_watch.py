"""The champion of the ledger answers within a look; one that is damaged changes nothing and says so."""

import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bentos.classifier import watch as watching
from bentos.classifier.ask import Ask
from bentos.classifier.bundle import Standing
from bentos.classifier.predictor import Predictor
from bentos.classifier.watch import Watch
from flywheel.data.decode import decode
from flywheel.ledger import Ledger, LedgerError, open_ledger
from flywheel.ledger.leases import open_leases
from flywheel.ledger.predictions import Role, Serving, open_predictions
from flywheel.model.folder import WEIGHTS, list_files, read_manifest, read_model, write_manifest
from flywheel.model.inference import Outputs, load_model, softmax
from flywheel.paths import Paths
from tests.bentos.classifier.conftest import bundle_of
from tests.bentos.classifier.test_app import encoded
from tests.flywheel.ledger.judging import promote, rollback

FIRST, SECOND = "model-0123456789ab", "model-ba9876543210"
FILE = encoded("JPEG")


class Followed:
    """A ledger, two models, and a predictor whose watch looks when it is told to."""

    def __init__(self, home: Path, models: Path) -> None:
        self.paths = Paths(home)
        shutil.copytree(models, self.paths.models)
        url = f"sqlite:///{home / 'ledger.db'}"
        self.ledger, self.log = open_ledger(url), open_predictions(url)
        self.predictor = Predictor(Standing(bundle_of(self.paths.models / FIRST)), 10**6)
        self.entered: list[Serving] = []
        self.swaps: list[str] = []
        self.opener: Callable[[], Ledger] = partial(open_ledger, url)
        predictions = partial(open_predictions, url)
        swapped = lambda: self.swaps.append(self.champion)  # noqa: E731
        self.watch = Watch(self.predictor, self.paths, lambda: self.opener(), predictions, self.entered.append, swapped)

    @property
    def champion(self) -> str:
        return self.predictor.standing.champion.serving.model_id

    def answer(self) -> str:
        """Who answers; what is answered is compared with that model, loaded afresh."""
        (answer,) = self.predictor.predict([Ask("0" * 36, FILE)])
        wanted = softmax(load_model(self.paths.model(answer.model_id)).classify([decode(FILE)]).logits)[0]
        assert answer.probabilities == pytest.approx(wanted, abs=1e-5)
        return str(answer.model_id)


@pytest.fixture
def followed(tmp_path, models):
    return Followed(tmp_path / "home", models)


def test_before_the_first_promotion_the_bentos_own_model_answers(followed):
    followed.watch.look()
    assert (followed.answer(), followed.watch.trouble) == (FIRST, "")


def test_a_promotion_and_a_rollback_are_followed_at_the_next_look(followed):
    promote(followed.ledger, FIRST)
    followed.watch.look()
    assert followed.answer() == FIRST
    promote(followed.ledger, SECOND, FIRST)
    assert followed.answer() == FIRST
    followed.watch.look()
    assert followed.answer() == SECOND
    about = followed.predictor.standing.champion.about
    champion = followed.ledger.champion("task-1")
    assert (about.model_id, about.release_id, about.champion_since) == (SECOND, champion.decision_id, champion.since)
    assert about.gate.verdict == "pass"
    rollback(followed.ledger)
    followed.watch.look()
    assert followed.answer() == FIRST
    assert followed.swaps == [SECOND, FIRST]
    assert [each.model_id for each in followed.entered] == [FIRST, SECOND, FIRST]
    assert len({each.id for each in followed.entered}) == 3


def test_a_look_without_news_loads_nothing(followed, monkeypatch):
    promote(followed.ledger, SECOND)
    followed.watch.look()
    monkeypatch.setattr(watching, "load_bundle", None)
    before = followed.predictor.standing
    for _ in range(3):
        followed.watch.look()
    assert followed.predictor.standing is before


def spoil_weights(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-100] ^= 1
    (folder / WEIGHTS).write_bytes(data)


def forge_answers(folder: Path) -> None:
    """Another model's weights, and a manifest that vouches for them."""
    shutil.copyfile(folder.with_name(FIRST) / WEIGHTS, folder / WEIGHTS)
    files = read_manifest(folder)["files"]
    write_manifest(folder, read_model(folder), list_files(folder, files), {})


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_weights, "SHA-256"),
        (lambda folder: (folder / "model.json").unlink(), "expected, none found"),
        (shutil.rmtree, "expected, none found"),
        (forge_answers, "stored samples are .* apart"),
    ],
    ids=["a bit of the weights", "no manifest", "no folder", "other answers"],
)
def test_a_champion_that_cannot_be_trusted_leaves_the_old_one_serving(followed, spoil, told):
    promote(followed.ledger, FIRST)
    followed.watch.look()
    spoil(followed.paths.model(SECOND))
    promote(followed.ledger, SECOND, FIRST)
    followed.watch.look()
    assert followed.answer() == FIRST
    assert re.search(told, followed.watch.trouble)
    (refused,) = [each for each in followed.entered if each.problem]
    assert (refused.model_id, refused.problem) == (SECOND, followed.watch.trouble)
    for _ in range(3):
        followed.watch.look()
    assert len([each for each in followed.entered if each.problem]) == 1


def test_a_folder_that_is_whole_later_is_served_later(followed, models):
    shutil.rmtree(followed.paths.model(SECOND))
    promote(followed.ledger, SECOND)
    followed.watch.look()
    assert followed.answer() == FIRST
    shutil.copytree(models / SECOND, followed.paths.model(SECOND))
    for _ in range(3):
        followed.watch.look()
    assert (followed.answer(), followed.watch.trouble) == (SECOND, "")


def test_a_ledger_that_is_away_changes_nothing_and_is_asked_again(followed):
    promote(followed.ledger, SECOND)
    followed.watch.look()
    there = followed.opener

    def away() -> Ledger:
        raise LedgerError("no route to the host.")

    followed.opener = away
    followed.watch._ledger = None
    followed.watch.look()
    assert (followed.answer(), followed.watch.trouble) == (SECOND, "The ledger can't be read: no route to the host.")
    followed.opener = there
    followed.watch.look()
    assert followed.watch.trouble == ""


def test_a_trial_begins_and_ends_beside_the_champion(followed):
    promote(followed.ledger, FIRST)
    followed.log.begin_trial("task-1", SECOND, "classifier:b", Role.CANARY, 1.0, reason="try", who="ada")
    followed.watch.look()
    assert (followed.champion, followed.answer()) == (FIRST, SECOND)
    followed.log.begin_trial("task-1", SECOND, "classifier:b", Role.SHADOW, 1.0, reason="look", who="ada")
    followed.watch.look()
    assert followed.answer() == FIRST
    assert followed.predictor.standing.trial.serving.role is Role.SHADOW
    followed.log.begin_trial("task-1", SECOND, "classifier:b", Role.NONE, 0, reason="enough", who="ada")
    followed.watch.look()
    assert followed.predictor.standing.trial is None
    assert followed.swaps == []


def test_a_broken_model_on_trial_gets_no_requests_and_holds_up_no_promotion(followed):
    promote(followed.ledger, FIRST)
    followed.log.begin_trial("task-1", "model-none", "classifier:n", Role.CANARY, 0.5, reason="try", who="ada")
    followed.watch.look()
    assert followed.answer() == FIRST
    assert "model-none is not served as canary" in followed.watch.trouble
    promote(followed.ledger, SECOND, FIRST)
    followed.watch.look()
    assert followed.answer() == SECOND


def test_swaps_under_way_mix_no_batch(followed):
    """Every answer is its named model's, while another thread swaps as fast as it can."""
    wanted = {
        name: softmax(load_model(followed.paths.model(name)).classify([decode(FILE)]).logits)[0]
        for name in (FIRST, SECOND)
    }
    assert np.abs(wanted[FIRST] - wanted[SECOND]).max() > 0.01
    stop = threading.Event()

    def swap() -> None:
        promote(followed.ledger, FIRST)
        promote(followed.ledger, SECOND, FIRST)
        while not stop.is_set():
            followed.watch.look()
            rollback(followed.ledger) if followed.champion == SECOND else promote(followed.ledger, SECOND, FIRST)

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = set()
    for _ in range(150):
        for answer in followed.predictor.predict([Ask("0" * 36, FILE)] * 4):
            seen.add(answer.model_id)
            assert answer.probabilities == pytest.approx(wanted[answer.model_id], abs=1e-3)
    stop.set()
    swapper.join()
    assert seen == {FIRST, SECOND}


def trial_of(followed: Followed, model_id: str, *, lease: str = "", role: Role = Role.CANARY) -> None:
    begun = ("task-1", model_id, "classifier:2", role, 1.0)
    followed.log.begin_trial(*begun, reason="to see", who="a test", lease=lease)


def test_a_canary_whose_lease_runs_out_is_dropped_at_the_next_look(followed, tmp_path):
    promote(followed.ledger, FIRST)
    leases = open_leases(f"sqlite:///{followed.paths.home / 'ledger.db'}")
    leases.take("trial-1", "release", 4)
    trial_of(followed, SECOND, lease="trial-1")
    followed.watch.look()
    assert followed.answer() == SECOND
    time.sleep(4.1)
    followed.watch.look()
    assert followed.answer() == FIRST


def test_a_canary_is_dropped_when_its_lease_runs_out_unseen(followed):
    """The database is gone, so nobody can tell whether the release lives."""
    promote(followed.ledger, FIRST)
    leases = open_leases(f"sqlite:///{followed.paths.home / 'ledger.db'}")
    leases.take("trial-1", "release", 4)
    trial_of(followed, SECOND, lease="trial-1")
    followed.watch.look()

    def gone() -> Ledger:
        raise LedgerError("the database is away")

    followed.opener = gone
    followed.watch._ledger = None
    followed.watch.look()
    assert followed.answer() == SECOND, "the lease stands by what is known"
    time.sleep(4.1)
    followed.watch.look()
    assert followed.answer() == FIRST


@pytest.mark.parametrize("how", ["raises", "answers with NaN"])
def test_a_canary_that_can_not_answer_costs_no_request(followed, how, monkeypatch):
    promote(followed.ledger, FIRST)
    trial_of(followed, SECOND)
    followed.watch.look()
    classifier = followed.predictor.standing.trial.classifier

    def fail(packed: np.ndarray) -> Outputs:
        if how == "raises":
            raise RuntimeError("out of memory")
        outputs = type(classifier).predict_packed(classifier, packed)
        return replace(outputs, logits=np.full_like(outputs.logits, np.nan))

    object.__setattr__(classifier, "predict_packed", fail)
    assert followed.answer() == FIRST
    assert followed.answer() == FIRST
    followed.watch.look()
    followed.log.append(followed.entered, [])  # as the prediction log does
    (tally,) = followed.log.tallies(f"trial-{followed.log.trial('task-1').position}").values()
    assert (tally.answers, tally.failures) == (0, 2)
    (champions,) = followed.log.tallies(followed.ledger.champion("task-1").decision_id).values()
    assert champions.answers == 2
