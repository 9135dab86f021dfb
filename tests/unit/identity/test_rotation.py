from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.identity import rotation

BEGIN = st.integers(0, 10**12)
LIFE = st.integers(1, 10**11)


@given(BEGIN, LIFE)
def test_rotation_begins_at_half_of_the_life_and_stays(begin: int, life: int) -> None:
    half = begin + life // 2
    assert not rotation.should_rotate(half - 1, begin, begin + life) or half == begin
    assert rotation.should_rotate(half, begin, begin + life)
    assert rotation.should_rotate(begin + life + 1, begin, begin + life)


@given(BEGIN, LIFE, st.floats(0, 1, exclude_max=True))
def test_a_holder_renews_between_half_and_six_tenths(begin: int, life: int, chance: float) -> None:
    when = rotation.renewal_time_ms(begin, begin + life, chance)
    assert rotation.should_rotate(when, begin, begin + life)
    assert when <= begin + life * 0.6 + 1


@pytest.mark.parametrize("chance", [-0.1, 1.0])
def test_chance_is_a_fraction(chance: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        rotation.renewal_time_ms(0, 10, chance)


def test_a_life_ends_after_it_begins() -> None:
    with pytest.raises(ValueError, match="ends after"):
        rotation.should_rotate(0, 5, 5)
    with pytest.raises(ValueError, match="ends after"):
        rotation.renewal_time_ms(5, 5, 0)


def test_an_authority_signs_when_everybody_had_time_to_learn_it() -> None:
    assert not rotation.should_activate(99, 0, 100)
    assert rotation.should_activate(100, 0, 100)


def test_an_old_authority_is_trusted_until_its_last_certificate_ended_everywhere() -> None:
    assert not rotation.should_retire(160, 100, 60)
    assert rotation.should_retire(161, 100, 60)
