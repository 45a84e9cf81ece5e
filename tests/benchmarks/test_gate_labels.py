"""The labels for a guarantee: both errors at what is answered, and the peer that is compared with."""

import subprocess

import numpy as np
import pytest

from benchmarks.gate_labels import (
    BAR,
    COMMIT,
    ESTIMATOR,
    SEEN,
    Case,
    Labels,
    asymptotic_images,
    check_checkout,
    images_for,
    paper_labels,
    passes_until_dearer,
    weighted_error,
)
from benchmarks.gate_simulation import Pair, generator
from benchmarks.peers import PeerError
from flywheel.evaluation.statistics import noninferiority_p


@pytest.mark.parametrize(("adaptivity", "thousands"), [("none", 29), ("full", 67)])
def test_the_papers_formula_gives_the_papers_numbers(adaptivity, thousands):
    """29K and 67K labels for 32 steps, reliability .9999, a tenth that differs (section 4.1)."""
    assert paper_labels(Case(0.9999, 32, adaptivity), 0.1) // 1000 == thousands


def test_each_side_of_a_step_has_its_share():
    assert Case(0.99, 32, "none").error == pytest.approx(0.01 / 64)
    assert Case(0.99, 32, "full").error == pytest.approx(0.01 / 2**33)


ERROR, PLANNED = 0.02, 0.1


@pytest.fixture(scope="module")
def labels() -> Labels:
    return images_for(ERROR, PLANNED)


def test_both_errors_are_within_their_share_in_a_simulation(labels):
    error, planned, draws, found = ERROR, PLANNED, 20_000, labels
    assert found.false_pass <= error
    assert found.miss <= error
    passed = []
    for gain in (BAR, SEEN):
        pairs, times = np.unique(
            Pair(found.images, planned, gain).draw(draws, generator("labels", gain)), axis=0, return_counts=True
        )
        passes = [noninferiority_p(won, lost, found.images, -BAR) <= found.level for won, lost in pairs.tolist()]
        passed.append(times[passes].sum() / draws)
    assert passed[0] <= error + 0.003
    assert passed[1] >= 1 - error - 0.003
    assert passed[1] == pytest.approx(1 - found.miss, abs=0.003)


def test_the_images_are_about_as_many_as_a_normal_distribution_asks_for(labels):
    """z² d / ε² with z = 2.0537 for an error of 2 %."""
    assert asymptotic_images(ERROR, PLANNED) == 4218
    assert 0.9 < labels.images / 4218 < 1.1


def test_a_history_with_passes_has_less():
    case = Case(0.99, 32, "full")
    shares = [weighted_error(case, passes) for passes in range(4)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(0.005 / 32 * (1 - 1.5 / 33) ** 31)
    last = passes_until_dearer(case)
    assert weighted_error(case, last) < case.error <= weighted_error(case, last - 1)


def test_a_peer_that_is_not_there_ends_the_benchmark(tmp_path):
    with pytest.raises(PeerError, match=rf"easeml/ci .* at {COMMIT} expected, no {ESTIMATOR} found"):
        check_checkout(tmp_path)


def test_a_peer_of_another_commit_ends_it_too(tmp_path):
    file = tmp_path / ESTIMATOR
    file.parent.mkdir(parents=True)
    file.write_text("", encoding="utf-8")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    with pytest.raises(PeerError, match=r"expected, [0-9a-f]{40} found"):
        check_checkout(tmp_path)
