"""Weighted Copeland: its axioms as properties, and agreement with pref_voting."""
from __future__ import annotations

import itertools
import time
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lib.copeland import (
    borda, condorcet_cycles, condorcet_winner, copeland, integer_weights, kemeny, pairwise_margins,
)

CASES = settings(max_examples=80, deadline=None)


@st.composite
def elections(draw, min_voters=1, max_voters=5, max_candidates=9, missing=True, exact=False):
    """Arguments of :func:`copeland`; small integers, so that ties abound."""
    n_voters = draw(st.integers(min_voters, max_voters))
    n = draw(st.integers(1, max_candidates))
    cell = st.integers(-3, 6).map(float)
    cell = st.one_of(cell, st.just(np.nan)) if missing else cell
    values = np.array([[draw(cell) for _ in range(n)] for _ in range(n_voters)])
    absolute = [draw(st.booleans()) for _ in range(n_voters)]
    thresholds = [draw(st.sampled_from([0, 0, 1.0, 2.5] if a else [0, 0, 0.1, 0.5])) for a in absolute]
    return values, {
        "weights": [draw(st.integers(1, 4)) for _ in range(n_voters)],
        "directions": [draw(st.sampled_from([1, -1])) for _ in range(n_voters)],
        "thresholds": [0] * n_voters if exact else thresholds,
        "absolute": absolute,
        "missing": draw(st.sampled_from(["ignore", "last"])),
    }


def voters(arguments, index):
    """The arguments for these voters only."""
    return {k: v if k == "missing" else [v[i] for i in index] for k, v in arguments.items()}


def smith_set(margins):
    """Smallest set whose members all beat everyone outside it, by trying all."""
    everyone = range(len(margins))
    subsets = (s for size in everyone for s in itertools.combinations(everyone, size + 1))
    return next(s for s in subsets if all(margins[i, j] > 0 for i in s for j in {*everyone} - {*s}))


def by_definition(values, weights, directions, thresholds, absolute, missing):
    """Margins written out pair by pair."""
    n_voters, n = values.shape
    margins = np.zeros((n, n), int)
    for v, i, j in itertools.product(range(n_voters), range(n), range(n)):
        a, b = values[v, [i, j]] * directions[v]
        if np.isnan(a) or np.isnan(b):
            opinion = 0 if missing == "ignore" else int(np.isnan(b)) - int(np.isnan(a))
        else:
            within = thresholds[v] if absolute[v] else thresholds[v] * max(abs(a), abs(b))
            opinion = 0 if abs(a - b) <= within else int(np.sign(a - b))
        margins[i, j] += weights[v] * opinion
    return margins


@CASES
@given(elections())
def test_every_path_follows_the_definition(election):
    values, arguments = election
    expected = by_definition(values, **arguments)
    result = copeland(values, **arguments)
    assert (result.scores == np.sign(expected).sum(axis=1)).all()
    assert (borda(values, **arguments) * np.gcd.reduce(arguments["weights"]) == expected.sum(axis=1)).all()
    assert (pairwise_margins(values, **arguments) * np.gcd.reduce(arguments["weights"]) == expected).all()


@pytest.mark.parametrize("weights", [(1, 1), (3, 2), (1, 4)])
@pytest.mark.parametrize("missing", ["ignore", "last"])
@pytest.mark.parametrize("threshold", [0, 0.05])
def test_two_voters_need_no_table(weights, missing, threshold):
    # A third voter who has measured nothing changes no opinion but takes the path over all pairs.
    rng = np.random.default_rng(7)
    values = rng.integers(-40, 200, (2, 700)).astype(float)
    values[rng.random(values.shape) < 0.1] = np.nan
    fast = copeland(values, weights, thresholds=[threshold] * 2, missing=missing)
    silent = np.vstack([values, np.full(700, np.nan)])
    table = copeland(silent, [*weights, 1], thresholds=[threshold] * 2 + [0], missing=missing)
    assert (fast.scores == table.scores).all()
    assert len(set(fast.scores)) > 100


def test_two_long_rankings():
    values = np.random.default_rng(1).random((2, 20_000)).round(4)
    scores = copeland(values).scores
    for i in (0, 1, 9_999, 19_999):
        assert scores[i] == np.sign(np.sign(values[:, [i]] - values).sum(axis=0)).sum()


@CASES
@given(elections(), st.randoms(use_true_random=False))
def test_anonymity(election, random):
    values, arguments = election
    index = list(range(len(values)))
    random.shuffle(index)
    shuffled = copeland(values[index], **voters(arguments, index))
    assert (shuffled.scores == copeland(values, **arguments).scores).all()


@CASES
@given(elections(), st.randoms(use_true_random=False))
def test_neutrality_and_independence_of_input_order(election, random):
    values, arguments = election
    result = copeland(values, **arguments)
    index = list(range(values.shape[1]))
    random.shuffle(index)
    moved = copeland(values[:, index], **arguments)
    assert (moved.scores == result.scores[index]).all() and (moved.ranks == result.ranks[index]).all()
    renamed = [frozenset(index[i] for i in group) for group in moved.groups]
    assert renamed == [frozenset(group) for group in result.groups]


@CASES
@given(elections(exact=True))
def test_reversal_negates(election):
    values, arguments = election
    arguments["missing"] = "ignore"  # 'last' is about absence, which has no reverse
    reverse = {**arguments, "directions": [-d for d in arguments["directions"]]}
    assert (copeland(values, **reverse).scores == -copeland(values, **arguments).scores).all()


@CASES
@given(elections())
def test_winner_of_all_pairs_leads_with_the_highest_score(election):
    values, arguments = election
    margins = pairwise_margins(values, **arguments)
    result, winner, n = copeland(values, **arguments), condorcet_winner(margins), values.shape[1]
    assert (winner is not None) == (result.scores.max() == n - 1)
    assert set(result.groups[0]) <= set(smith_set(margins))
    if winner is not None:
        assert result.groups[0] == (winner,) == smith_set(margins)


@CASES
@given(elections(), st.integers(2, 9), st.integers(1, 9))
def test_scaling_all_weights_changes_nothing(election, numerator, denominator):
    values, arguments = election
    scaled = {**arguments, "weights": [w * Fraction(numerator, denominator) for w in arguments["weights"]]}
    assert (copeland(values, **scaled).scores == copeland(values, **arguments).scores).all()


@CASES
@given(elections())
def test_a_voter_twice_is_a_voter_of_weight_two(election):
    values, arguments = election
    index = [*range(len(values)), 0]
    double = voters(arguments, range(len(values)))
    twice = voters(arguments, index)
    double["weights"][0] *= 2
    assert (copeland(values[index], **twice).scores == copeland(values, **double).scores).all()


@CASES
@given(elections())
def test_a_voter_of_weight_zero_has_no_say(election):
    values, arguments = election
    index = [*range(len(values)), 0]
    ignored = voters(arguments, index)
    ignored["weights"][-1] = 0
    assert (copeland(values[index], **ignored).scores == copeland(values, **arguments).scores).all()


@CASES
@given(elections())
def test_a_candidate_tied_with_all_changes_no_order(election):
    values, arguments = election
    arguments["missing"] = "ignore"
    unknown = np.column_stack([values, np.full(len(values), np.nan)])
    scores = copeland(unknown, **arguments).scores
    assert (scores[:-1] == copeland(values, **arguments).scores).all() and scores[-1] == 0


@CASES
@given(elections())
def test_ranks_and_groups_describe_the_scores(election):
    result = copeland(election[0], **election[1])
    assert result.ranks.tolist() == [1 + int((result.scores > s).sum()) for s in result.scores]
    assert sorted(i for group in result.groups for i in group) == list(range(len(result.scores)))
    levels = sorted(set(result.scores), reverse=True)
    assert [set(result.scores[list(group)]) for group in result.groups] == [{level} for level in levels]


@CASES
@given(elections())
def test_half_points_give_the_same_ranking(election):
    signs = np.sign(pairwise_margins(election[0], **election[1]))
    half = (signs > 0).sum(axis=1) + Fraction(1, 2) * ((signs == 0).sum(axis=1) - 1)
    order = [sum(other > own for other in half) + 1 for own in half]
    assert order == copeland(election[0], **election[1]).ranks.tolist()


def test_full_points_for_ties_may_give_another_ranking():
    # 0 beats 1 and 2 and ties 3; 3 ties everyone.
    margins = np.array([[0, 1, 1, 0], [-1, 0, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 0]])
    wins_less_losses = np.sign(margins).sum(axis=1)
    llull = (margins >= 0).sum(axis=1) - 1
    assert wins_less_losses[0] > wins_less_losses[3] and llull[0] == llull[3]


def test_weights_of_the_same_sum_tie():
    # As floats 0.1 + 0.2 exceeds 0.3 by 5.6e-17 and candidate 0 would win.
    values = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    weights = [Fraction(1, 10), Fraction(2, 10), Fraction(3, 10)]
    assert 0.1 + 0.2 > 0.3
    assert copeland(values, weights).groups == ((0, 1),)


def test_indifference_is_not_transitive():
    values = np.array([[100.0, 104.0, 108.0]])
    assert copeland(values, thresholds=[0.05]).scores.tolist() == [-1, 0, 1]
    assert copeland(values, thresholds=[4.0], absolute=[True]).scores.tolist() == [-1, 0, 1]
    assert copeland(values, thresholds=[0.08]).groups == ((0, 1, 2),)


def test_policies_for_missing_values_differ():
    values = np.array([[3.0, np.nan, 1.0], [1.0, 2.0, np.nan]])
    assert copeland(values, missing="ignore").scores.tolist() == [0, 1, -1]
    assert copeland(values, missing="last").scores.tolist() == [1, 0, -1]
    nothing = np.full((1, 4), np.nan)
    assert copeland(nothing).groups == copeland(nothing, missing="last").groups == ((0, 1, 2, 3),)


def test_cycle_smith_set_and_kemeny_of_the_voting_paradox():
    cycle = np.array([[3, 2, 1, 0], [1, 3, 2, 0], [2, 1, 3, 0.0]])  # a > b > c > a, and all beat d
    margins = pairwise_margins(cycle)
    assert condorcet_winner(margins) is None and condorcet_cycles(margins) == 1
    assert smith_set(margins) == (0, 1, 2)
    assert kemeny(margins) == ((0, 1, 2, 3), 1 + 9, 3)
    assert copeland(cycle).groups == ((0, 1, 2), (3,)) and copeland(cycle).ranks.tolist() == [1, 1, 1, 4]


@settings(max_examples=60, deadline=None)
@given(elections(max_candidates=6))
def test_kemeny_against_all_orders(election):
    margins = pairwise_margins(election[0], **election[1])
    agreement = {o: sum(margins[a, b] for a, b in itertools.combinations(o, 2))
                 for o in itertools.permutations(range(len(margins)))}
    best = [o for o in sorted(agreement) if agreement[o] == max(agreement.values())]
    assert kemeny(margins) == (best[0], agreement[best[0]], len(best))


@pytest.fixture(scope="module")
def pref_voting():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package's own imports
        from pref_voting import profiles_with_ties
    return profiles_with_ties


@pytest.mark.parametrize("missing", ["ignore", "last"])
def test_agrees_with_pref_voting(pref_voting, missing):
    rng = np.random.default_rng(11)
    ties = 0
    for _ in range(200):
        n_voters, n = rng.integers(1, 7), rng.integers(2, 9)
        places = rng.integers(1, 7, (n_voters, n))  # 1 is best
        known = rng.random((n_voters, n)) > 0.2
        weights = rng.integers(1, 5, n_voters).tolist()
        ballots = [{c: int(places[v, c]) for c in range(n) if known[v, c]} for v in range(n_voters)]
        peer = pref_voting.ProfileWithTies(ballots, rcounts=weights, candidates=list(range(n)))
        if missing == "last":
            peer.use_extended_strict_preference()
        theirs = peer.copeland_scores()
        ours = copeland(np.where(known, places, np.nan), weights, directions=[-1] * n_voters, missing=missing)
        assert ours.scores.tolist() == [theirs[c] for c in range(n)]
        ties += len(ours.groups) < n
    assert ties > 50


GOOD = np.array([[1.0, 2.0], [2.0, 1.0]])


@pytest.mark.parametrize("values, arguments, message", [
    (np.ones(3), {}, r"values: shape \(3,\)"),
    (np.ones((0, 3)), {}, "values: shape"),
    (np.ones((2, 0)), {}, "values: shape"),
    (np.array([[1.0, 2.0], [np.inf, 1.0]]), {}, "voter 1, candidate 0 is infinite"),
    (GOOD, {"weights": [1]}, "weights: 1 given for 2 voters"),
    (GOOD, {"weights": [1, -1]}, "weight 1 is -1"),
    (GOOD, {"weights": [0, 0]}, "at least one weight must be above 0"),
    (GOOD, {"weights": [0.5, 1]}, "weight 0 is 0.5"),
    (GOOD, {"weights": [float("nan"), 1]}, "weight 0 is nan"),
    (GOOD, {"weights": [float("inf"), 1]}, "weight 0 is inf"),
    (GOOD, {"weights": ["2", 1]}, "weight 0 is '2'"),
    (GOOD, {"weights": [Fraction(1, 2**40), 2**40]}, "too large to be exact"),
    (GOOD, {"directions": [1, 0]}, "directions: voter 1 is 0"),
    (GOOD, {"thresholds": [-0.1, 0]}, "thresholds: voter 0 is -0.1"),
    (GOOD, {"thresholds": [0, 1.0]}, "thresholds: voter 1 is 1.0"),
    (GOOD, {"thresholds": [0, float("nan")]}, "thresholds: voter 1 is nan"),
    (GOOD, {"thresholds": [0, float("inf")], "absolute": [True, True]}, "thresholds: voter 1 is inf"),
    (GOOD, {"thresholds": [0, 0, 0]}, "thresholds: 3 given for 2 voters"),
    (GOOD, {"missing": "first"}, "missing: 'first'"),
])
def test_bad_input_is_refused_with_one_line(values, arguments, message):
    for function in (copeland, pairwise_margins, borda):
        with pytest.raises(ValueError, match=message) as error:
            function(values, **arguments)
        assert "\n" not in str(error.value)


def test_bad_margins_are_refused():
    for function in (condorcet_winner, condorcet_cycles, kemeny):
        for margins in (np.zeros((2, 3)), np.zeros((0, 0)), np.ones((2, 2)), np.zeros(4)):
            with pytest.raises(ValueError, match="antisymmetric"):
                function(margins)
    with pytest.raises(ValueError, match="at most 12"):
        kemeny(np.zeros((13, 13), int))
    with pytest.raises(ValueError, match="too many for a table"):
        pairwise_margins(np.zeros((3, 16_385)))


def test_whole_weights():
    assert integer_weights([2, np.int64(4), 6.0]) == [1, 2, 3]
    assert integer_weights([Fraction(1, 2), Fraction(1, 3), 0]) == [3, 2, 0]


def test_scale():
    rng = np.random.default_rng(0)
    million, many = rng.random((2, 1_000_000)), rng.random((10, 10_000))
    for values, weights, limit in ((million, [1, 1], 3), (million, [2, 1], 3), (many, range(1, 11), 1)):
        start = time.process_time()  # not the wall clock: the machine may be busy
        scores = copeland(values, weights).scores
        assert time.process_time() - start < limit
        assert scores.sum() == 0
