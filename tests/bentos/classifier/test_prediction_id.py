"""UUIDv7 as RFC 9562 lays it out, strictly growing within a process."""

from uuid import RFC_4122

from bentos.classifier.prediction_id import PredictionIds


def test_the_layout_is_that_of_the_rfc() -> None:
    # RFC 9562, appendix A.6: 2022-02-22T19:22:22.000Z is 0x017F22E279B0 milliseconds
    identity = PredictionIds(clock=lambda: 0x017F22E279B0 * 1_000_000).next()
    assert identity.version == 7
    assert identity.variant == RFC_4122
    assert str(identity).startswith("017f22e2-79b0-7000-")


def test_the_fraction_of_the_millisecond_follows_in_12_bits() -> None:
    half = PredictionIds(clock=lambda: 5_500_000).next()
    assert str(half).startswith("00000000-0005-7800-")


def test_ids_grow_strictly_also_within_one_instant_and_when_the_clock_is_set_back() -> None:
    times = iter([9_000_000, 9_000_000, 9_000_000, 1_000_000, 10_000_000])
    ids = PredictionIds(clock=lambda: next(times))
    made = [ids.next() for _ in range(5)]
    assert made == sorted(made)
    assert len({identity.int >> 62 for identity in made}) == 5


def test_a_full_fraction_carries_into_the_millisecond() -> None:
    ids = PredictionIds(clock=lambda: 1_999_999)
    made = [ids.next() for _ in range(2)]
    assert str(made[0]).startswith("00000000-0001-7fff-")
    assert str(made[1]).startswith("00000000-0002-7000-")
