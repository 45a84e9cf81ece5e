"""Numbers as a person reads them."""

import pytest

from flywheel import units


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0, "0"),
        (2e-7, "below 0.01"),
        (0.0123, "0.0123"),
        (0.5, "0.5"),
        (19.96, "20"),
        (99.96, "100"),
        (123.4, "123"),
        (2_087.6, "2,088"),
        (999_999.0, "999,999"),
        (1e6, "1,000,000"),
        (1.1e6, "over 1 million"),
        (1e300, "over 1 million"),
    ],
)
def test_evidence_is_written_without_exponents(value: float, told: str) -> None:
    assert units.evidence(value) == told
