"""Synthetic conflicts: a task ranking against a hardware ranking. What must come out is derived first, then asserted.

Let a and b be two rankings of n candidates without ties, d pairs of which they order differently (Kendall distance).
A pair is decided by the sign of w_a * o_a + w_b * o_b with o = +1 or -1.

* w_a = w_b: the d pairs cancel, the others count as both say. As sign(o_a + o_b) = (o_a + o_b) / 2, a Copeland score is
  exactly half the sum of the two voters' scores: Copeland is the mean of the two ranks.
* w_a > w_b: every pair goes as a says. The ranking is a, whatever b says and whatever the weights are.
* Where a is indifferent, b decides, at any positive weight.
* Three voters: with w_a > w_b + w_c the ranking is a; with each below the sum of the others, any two outvote the third,
  and weights have no other effect.
"""
from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import kendalltau

from lib.conflicts import against_kemeny, at_distance, claims, describe, margins, rank_intervals, threshold_moves
from lib.copeland import borda, copeland, kemeny, pairwise_margins
from tests.helpers_queries import make_query

N = 7
MOST = N * (N - 1) // 2
TASK = -np.arange(N, dtype=float)  # place 0 is best; values: larger is better
CASES = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 10_000)


def hardware(distance, seed=0, n=N):
    """Values of a second ranking at a Kendall distance from TASK."""
    return -at_distance(n, distance, np.random.default_rng(seed)).astype(float)


@CASES
@given(st.integers(1, 12), st.data())
def test_rankings_are_made_at_the_distance_asked_for(n, data):
    swaps = data.draw(st.integers(0, n * (n - 1) // 2))
    places = at_distance(n, swaps, np.random.default_rng(data.draw(seeds)))
    assert sorted(places) == list(range(n))
    assert sum(places[i] > places[j] for i, j in itertools.combinations(range(n), 2)) == swaps


def test_every_ranking_can_be_made():
    rng = np.random.default_rng(0)
    assert len({tuple(at_distance(4, d, rng)) for d in range(7) for _ in range(150)}) == 24


def test_impossible_distances_are_refused():
    with pytest.raises(ValueError, match="22 swaps of 7 candidates"):
        at_distance(7, 22, np.random.default_rng(0))


@pytest.mark.parametrize("weights", [(1, 1), (2, 1), (1, 9)])
def test_full_agreement_gives_that_ranking(weights):
    result = copeland(np.array([TASK, hardware(0)]), weights)
    assert result.groups == tuple((i,) for i in range(N))
    assert result.scores.tolist() == [N - 1 - 2 * i for i in range(N)]


def test_full_reversal_with_equal_weights_ties_everybody():
    result = copeland(np.array([TASK, hardware(MOST)]))
    assert result.groups == (tuple(range(N)),) and not result.scores.any()


@pytest.mark.parametrize("weights, winner", [((2, 1), 0), ((101, 100), 0), ((1, 2), N - 1)])
def test_full_reversal_with_unequal_weights_goes_to_the_heavier(weights, winner):
    result = copeland(np.array([TASK, hardware(MOST)]), weights)
    assert result.groups[0] == (winner,) and len(result.groups) == N


@pytest.mark.parametrize("distance", range(MOST + 1))
def test_equal_weights_leave_exactly_the_disputed_pairs_open(distance):
    for seed in range(5):
        both = np.array([TASK, hardware(distance, seed)])
        decided = np.count_nonzero(np.triu(pairwise_margins(both)))
        assert decided == MOST - distance


@CASES
@given(st.integers(0, MOST), seeds)
def test_equal_weights_are_the_mean_of_two_ranks(distance, seed):
    both = np.array([TASK, hardware(distance, seed)])
    scores = copeland(both).scores
    assert (2 * scores == borda(both)).all()
    mean_place = -both.mean(0)
    assert (scores == N - 1 - 2 * mean_place).all()


@CASES
@given(st.integers(0, MOST), seeds, st.integers(1, 50), st.integers(1, 50))
def test_unequal_weights_follow_the_heavier_at_every_distance(distance, seed, light, more):
    both = np.array([TASK, hardware(distance, seed)])
    assert (copeland(both, [light + more, light]).scores == copeland(TASK[None]).scores).all()
    assert (copeland(both, [light, light + more]).scores == copeland(both[1:]).scores).all()


@pytest.mark.parametrize("distance", [0, 5, 10, 15, MOST])
def test_agreement_with_the_lighter_falls_as_the_distance_says(distance):
    # Kendall's tau is 1 - 2 d / pairs, and the ranking is the heavier voter's.
    both = np.array([TASK, hardware(distance)])
    tau = kendalltau(copeland(both, [2, 1]).scores, both[1]).statistic
    assert tau == pytest.approx(1 - 2 * distance / MOST)


@CASES
@given(st.integers(0, MOST), seeds)
def test_equal_weights_reach_the_best_possible_agreement(distance, seed):
    # An undisputed pair puts the preferred one above in both rankings, hence higher in their mean: none is violated.
    m = pairwise_margins(np.array([TASK, hardware(distance, seed)]))
    scores = np.sign(m).sum(1)
    assert m[scores[:, None] > scores].sum() == kemeny(m).agreement


def test_the_lighter_voter_breaks_ties_of_the_heavier():
    task = np.array([3.0, 3.0, 1.0, 1.0])
    hardware_ = np.array([1.0, 2.0, 3.0, 4.0])
    assert copeland(np.array([task, hardware_]), [5, 1]).groups == ((1,), (0,), (3,), (2,))
    assert copeland(np.array([task, hardware_]), [1, 5]).groups == ((3,), (2,), (1,), (0,))
    # Equal weights: within the ties hardware decides, across them the two cancel.
    assert copeland(np.array([task, hardware_])).scores.tolist() == [-1, 1, -1, 1]


def test_a_tie_in_both_stays_a_tie():
    assert copeland(np.array([[2.0, 2.0, 1.0], [5.0, 5.0, 9.0]]), [2, 1]).groups == ((0, 1), (2,))


def test_indifference_turns_a_dispute_into_a_vote_of_the_other():
    # 100.0 against 101.0 ms is within 3 %: latency abstains and accuracy decides; 110 ms is not.
    for latency, scores in ((101.0, [-1, 1]), (110.0, [0, 0])):
        values = np.array([[80.0, 81.0], [100.0, latency]])
        result = copeland(values, directions=[1, -1], thresholds=[0.1, 0.03], absolute=[True, False])
        assert result.scores.tolist() == scores


def test_missing_figures():
    # 2 has no latency. 'ignore': its pairs go as the task says; 'last': every measured one also has the hardware vote.
    task, latency = np.array([1.0, 2.0, 3.0]), np.array([9.0, 5.0, np.nan])
    both = np.array([task, -latency])
    assert copeland(both, missing="ignore").groups == ((2,), (1,), (0,))
    assert copeland(both, missing="last").scores.tolist() == [-1, 1, 0]
    assert copeland(both, [1, 2], missing="last").groups == ((1,), (0,), (2,))
    # A metric that nobody measured has no vote.
    assert (copeland(np.array([task, np.full(3, np.nan)]), [1, 9]).scores == copeland(task[None]).scores).all()


@CASES
@given(st.lists(seeds, min_size=2, max_size=2), st.lists(st.integers(1, 30), min_size=3, max_size=3))
def test_three_voters_know_only_majorities(seed, weights):
    rng = np.random.default_rng(seed)
    rankings = np.array([rng.permutation(N) for _ in range(3)], float)
    scores, heavy = copeland(rankings, weights).scores, int(np.argmax(weights))
    if 2 * weights[heavy] > sum(weights):
        assert (scores == copeland(rankings[[heavy]]).scores).all()
    elif 2 * weights[heavy] < sum(weights):
        assert (scores == copeland(rankings).scores).all()
    else:  # exactly half: a pair is decided where one of the others sides with the heaviest
        light = [v for v in range(3) if v != heavy]
        signs = np.sign(rankings[:, :, None] - rankings[:, None])
        against = (signs[light] == -signs[heavy]).all(0)
        assert (scores == np.where(against, 0, signs[heavy]).sum(1)).all()


def test_two_metrics_that_agree_outvote_the_third():
    latency, memory = hardware(MOST, 1), hardware(MOST, 2)
    result = copeland(np.array([TASK, latency, memory]))
    assert result.groups[0] == (N - 1,)  # the least accurate of all


# ------------------------------------------------------------------------------------------------ counts on queries

QUERY = make_query(n=9, seed=3)
BOTH = {"accuracy": 1, "latency": 1}


def test_margins_are_those_of_the_truth():
    for weights in (BOTH, {"accuracy": 2, "latency": 1, "memory": 1}, {"accuracy": 1, "energy": 4}):
        assert (np.sign(margins(QUERY, weights)).sum(1) == QUERY.truth(weights).scores).all()


def test_description_of_a_query_by_hand():
    values = QUERY.values.iloc[:3].assign(accuracy=[90.0, 80.0, 70.0], latency_ms=[1.0, 2.0, 1.5])
    found = describe(replace(QUERY.subset([0, 1, 2]), values=values), BOTH)
    assert found == {"n": 3, "condorcet": True, "cycles": 0, "first": 1, "undecided": pytest.approx(1 / 3),
                     "tau": pytest.approx(1), "same_first": True}


def test_kemeny_on_a_subset():
    found = against_kemeny(QUERY, BOTH, size=5)
    assert found["n"] == 5 and found["agreement"] == 1 and found == against_kemeny(QUERY, BOTH, size=5)
    assert against_kemeny(QUERY, {"accuracy": 2, "latency": 1})["agreement"] == 1


def test_rank_intervals_hold_the_published_rank_and_grow_with_the_noise():
    plain, sampled = rank_intervals(QUERY, BOTH, 80, only=["latency"]), rank_intervals(QUERY, BOTH, 80)
    for table in (plain, sampled):
        assert ((table["low"] <= table["rank"]) & (table["rank"] <= table["high"])).mean() > 0.7
        assert table["first"].between(0, 1).all() and table["first"].sum() >= 1
    assert (sampled["high"] - sampled["low"]).sum() > (plain["high"] - plain["low"]).sum()


def test_far_apart_figures_have_no_interval():
    values = QUERY.values.assign(accuracy=np.linspace(10, 90, 9), latency_ms=10.0 ** np.arange(9))
    table = rank_intervals(replace(QUERY, values=values), {"accuracy": 1}, 40)
    assert (table["low"] == table["high"]).all() and table["rank"].tolist() == list(range(9, 0, -1))


def test_threshold_moves():
    table = threshold_moves(QUERY, BOTH, [0, 1, 2]).set_index("scale")
    assert table.loc[1, "tau"] == pytest.approx(1) and not table.loc[1, "changed"]
    values = QUERY.values.assign(accuracy=50.0 + np.arange(9) * 0.02, latency_ms=1.0)
    table = threshold_moves(replace(QUERY, values=values), BOTH, [1, 5]).set_index("scale")
    assert np.isnan(table.loc[5, "tau"]) and not table.loc[5, "changed"]  # all tie: nobody lost the first place


def test_claims_are_made_again_without_each_source():
    rows = pd.DataFrame({"source": ["a"] * 6 + ["b"] * 6, "soc": [f"chip{i}" for i in range(12)], "value": [1.0] * 6 + [3.0] * 6})
    found = claims({"mean": (rows, "value"), "one source": (rows[:6], "value")}).set_index("claim")
    assert found.loc["mean", ["estimate", "least", "most", "units"]].tolist() == [2, 1, 3, 12]
    assert 1 <= found.loc["mean", "low"] < 2 < found.loc["mean", "high"] <= 3
    assert np.isnan(found.loc["one source", "least"])
