"""Time left: a guess that a stage's own progress replaces."""

import pytest

from flows.estimate import FIXED_AND_PER_IMAGE, STAGES, Estimate
from flywheel.settings import TrainingParameters


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_half_done_means_as_long_again(clock: Clock) -> None:
    estimate = Estimate(TrainingParameters(), "release", clock)
    for stage in STAGES["release"][:-1]:
        estimate.finish(stage)
    estimate.start("release")
    clock.now = 100.0  # to start took long, and says nothing of the rest
    estimate.progress(0, 2)
    clock.now = 108.0
    estimate.progress(1, 2)
    assert estimate.left() == pytest.approx(8.0)


def test_a_finished_run_has_nothing_left(clock: Clock) -> None:
    estimate = Estimate(TrainingParameters(), "data", clock)
    for stage in STAGES["data"]:
        estimate.start(stage)
        estimate.finish(stage)
    assert estimate.left() == 0.0


def test_more_epochs_take_longer(clock: Clock) -> None:
    left = [
        Estimate(TrainingParameters.model_validate({"recipe": {"epochs": epochs}}), "release", clock).left()
        for epochs in (1, 11)
    ]
    # 2,000 images guessed, 70 % of them trained on, 10 epochs more, 700 images/s
    assert left[1] - left[0] == pytest.approx(2_000 * 0.7 * 10 / 700)


def test_the_index_tells_how_many_images_there_are(clock: Clock) -> None:
    estimate = Estimate(TrainingParameters(), "data", clock)
    estimate.start("index")
    estimate.progress(1, 60_000)
    assert estimate.images == 60_000


def test_a_stage_over_its_guess_has_nothing_left_rather_than_less(clock: Clock) -> None:
    estimate = Estimate(TrainingParameters(), "release", clock)
    for stage in STAGES["release"][:-1]:
        estimate.finish(stage)
    estimate.start("release")
    clock.now = 10 * FIXED_AND_PER_IMAGE["release"][0]
    assert estimate.left() == 0.0
