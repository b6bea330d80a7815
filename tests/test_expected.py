"""Expected Copeland scores: the certain case is Copeland's method, the uncertain one is what repeated draws average to."""
from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.copeland import copeland
from lib.expected import expected_copeland


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 8))
def test_without_errors_it_is_copelands_method(seed: int, voters: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, (voters, n)).astype(float)
    values[rng.random(values.shape) < 0.1] = np.nan
    weights, ties = [Fraction(int(w), 3) for w in rng.integers(1, 4, voters)], rng.integers(0, 3, voters).astype(float)
    sure = copeland(values, weights, thresholds=ties, absolute=[True] * voters).scores
    assert expected_copeland(values, weights, np.zeros(voters), ties).tolist() == sure.tolist()


def test_it_is_the_mean_over_draws_of_the_errors() -> None:
    rng = np.random.default_rng(1)
    values, spreads, weights, ties = rng.normal(size=(3, 6)), [0.5, rng.uniform(0.2, 1, 6), 0.3], [2, 1, 2], [0.1, 0.0, 0.3]
    # The errors of a pair are drawn anew for every pair: what the formula assumes of each pair on its own.
    draws = np.zeros(6)
    for _ in range(4000):
        noise = [np.broadcast_to(s, 6) * rng.normal(size=6) for s in spreads]
        draws += copeland(values + np.array(noise), weights, thresholds=ties, absolute=[True] * 3).scores / 4000
    assert expected_copeland(values, weights, spreads, ties) == pytest.approx(draws, abs=0.15)


def test_equal_values_are_one_thing_and_no_value_is_no_opinion() -> None:
    one_network = np.array([[1.0, 1.0, 3.0]])
    scores = expected_copeland(one_network, [1], [0.01], [0.0])
    assert scores == pytest.approx([-1, -1, 2])
    missing = expected_copeland(np.array([[1.0, np.nan, 2.0], [5.0, 6.0, 7.0]]), [1, 1], [0.0, 0.0], [0.0, 0.0])
    assert missing.tolist() == [-2, 0, 2]


def test_a_close_call_decides_less_than_a_sure_one() -> None:
    # 0 and 1 are as good as equal for the first voter and far apart for the second, which prefers 1.
    values = np.array([[1.01, 1.0, 0.0], [0.0, 5.0, 9.0]])
    sure = copeland(values, [1, 1]).scores
    assert sure[0] == sure[1]
    unsure = expected_copeland(values, [1, 1], [0.5, 0.5], [0.0, 0.0])
    assert unsure[1] > unsure[0] + 0.3


def test_mirrored_errors_mirror_the_scores() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(2, 9))
    scores = expected_copeland(values, [1, 2], [0.4, 0.2], [0.1, 0.0])
    assert scores.sum() == pytest.approx(0) and expected_copeland(-values, [1, 2], [0.4, 0.2], [0.1, 0.0]) == pytest.approx(-scores)
    assert np.abs(expected_copeland(values, [1, 2], [1e6, 1e6], [0.1, 0.0])).max() < 1e-4
