"""Who may act, and who acts now: a claim is for good, a lease as long as it is renewed."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from flywheel.ledger.entries import utc_now
from flywheel.ledger.leases import LeaseLost, open_leases
from tests.flywheel.conftest import Database


@pytest.fixture
def leases(database: Database):
    found = open_leases(database.url)
    yield found
    found.close()


def test_of_many_claims_one_stands(leases):
    with ThreadPoolExecutor(8) as pool:
        holders = set(pool.map(lambda number: leases.claim("dec-1", f"run {number}"), range(8)))
    assert len(holders) == 1
    assert leases.claim("dec-1", "late") in holders
    assert leases.claimant("dec-1") in holders
    assert leases.claimant("dec-2") == ""


def test_a_lease_is_anothers_until_it_runs_out(leases):
    now = utc_now()
    assert leases.take("retrain", "one", 10, now) == "one"
    assert leases.take("retrain", "two", 10, now + timedelta(seconds=9)) == "one"
    assert leases.take("retrain", "one", 10, now + timedelta(seconds=9)) == "one"
    assert leases.take("retrain", "two", 10, now + timedelta(seconds=15)) == "one", "it was renewed"
    assert leases.take("retrain", "two", 10, now + timedelta(seconds=20)) == "two"
    assert leases.holder("retrain", now + timedelta(seconds=21)) == "two"
    assert leases.holder("retrain", now + timedelta(seconds=31)) == ""


def test_a_held_lease_is_renewed_and_given_back(leases):
    with leases.held("canary", "run", 0.5) as held:
        time.sleep(1.0)
        held.demand()
        assert leases.holder("canary") == "run"
        with pytest.raises(LeaseLost, match="held by run"), leases.held("canary", "other", 1):
            pass
    assert leases.holder("canary") == ""


def test_who_lost_a_lease_is_told(leases):
    with leases.held("canary", "run", 0.5) as held:
        leases.take("canary", "thief", 60, utc_now() + timedelta(seconds=5))
        time.sleep(0.4)
        with pytest.raises(LeaseLost, match="thief"):
            held.demand()
    assert leases.holder("canary") == "thief", "what is another's is not given back"
