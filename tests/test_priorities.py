"""The simplex of priorities: exact faces, maps, stability, against brute force and against Copeland itself."""
from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from matplotlib.figure import Figure

from lib.priorities import PriorityMap, cells, distance, labels, patterns, plot_simplex, priority_map, scores
from tests.helpers_queries import make_query

CASES = settings(max_examples=100, deadline=None)
FEW = settings(max_examples=12, deadline=None)  # a new linear programme for each face
weights3 = st.lists(st.integers(1, 40), min_size=3, max_size=3)


def toy(accuracy, latency, memory):
    """A query with these figures."""
    q = make_query(n=len(accuracy))
    return replace(q, values=q.values.assign(accuracy=accuracy, latency_ms=latency, memory_kib=memory))


# Candidate 0 is fast and small, 1 accurate, 2 in between, 3 worse than 2 throughout.
CONFLICT = toy([60.0, 90.0, 75.0, 70.0], [1.0, 9.0, 4.0, 5.0], [10.0, 90.0, 40.0, 50.0])
THREE = ("accuracy", "latency", "memory")


@st.composite
def votes(draw, max_candidates=6):
    """Opinions of three voters, any of them: not even transitive."""
    n = draw(st.integers(2, max_candidates))
    out = np.zeros((3, n, n), np.int8)
    for v, (i, j) in itertools.product(range(3), itertools.combinations(range(n), 2)):
        out[v, i, j] = draw(st.sampled_from([-1, 0, 1]))
        out[v, j, i] = -out[v, i, j]
    return out


@pytest.mark.parametrize("n, faces, with_area", [(1, 1, 1), (2, 5, 2), (3, 43, 12)])
def test_number_of_faces(n, faces, with_area):
    found = cells(n)
    assert len(found.points) == faces and (found.dims == n - 1).sum() == with_area
    assert found.area.sum() == pytest.approx(1)
    assert (np.isclose(found.area, 0) == (found.dims < n - 1)).all()


def test_areas_of_three_metrics():
    # Where one metric has more than half of the weight, the smallest of the other two has no say left: 6 x 1/8.
    found = cells(3)
    areas = found.area[found.dims == 2]
    rules = 2 * found.points[found.dims == 2].max(1) > found.points[found.dims == 2].sum(1)
    assert areas[rules] == pytest.approx(np.full(6, 1 / 8)) and areas[~rules] == pytest.approx(np.full(6, 1 / 24))
    assert (found.points > 0).all(1).sum() == 31


def test_no_more_than_three_metrics():
    with pytest.raises(ValueError, match="4 metrics"):
        cells(4)


@CASES
@given(weights3)
def test_no_weights_lie_outside_the_faces(weights):
    planes = patterns(3)
    known = {tuple(np.sign(planes @ p)) for p in cells(3).points}
    assert tuple(np.sign(planes @ weights)) in known and len(known) == 43


@CASES
@given(votes(), weights3)
def test_rankings_are_constant_on_a_face(opinion, weights):
    planes = patterns(3)
    face = next(p for p in cells(3).points if (np.sign(planes @ p) == np.sign(planes @ weights)).all())
    assert (scores(opinion, face) == scores(opinion, weights)).all()


def test_scores_agree_with_the_truth_of_a_query():
    for q in (make_query(b, t, n=9, missing=True) for b in range(3) for t in range(3)):
        chart = priority_map(q, THREE)
        for point in cells(3).points:
            truth = q.truth(dict(zip(THREE, point.tolist())))
            assert (scores(chart.votes, point)[0] == truth.scores).all()
            assert np.flatnonzero(chart.answer(point.tolist())).tolist() == list(truth.groups[0])


def test_distance_is_the_weight_that_must_move():
    half = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]])  # where the first metric has half or more
    assert distance(half, [1, 1, 1]) == pytest.approx(1 / 6)
    assert distance(half, [0, 1, 1]) == pytest.approx(1 / 2)
    assert distance(half, [3, 1, 1]) == 0


@CASES
@given(weights3, st.integers(0, 42))
def test_distance_against_a_grid(weights, face):
    grid = np.array([p for p in np.ndindex(25, 25, 25) if sum(p) == 24]) / 24
    planes, point, w = patterns(3), cells(3).points[face], np.array(weights) / sum(weights)
    sign = np.sign(planes @ point)
    inside = ((np.sign(np.round(grid @ planes.T, 9)) == sign) | np.isclose(grid @ planes.T, 0)).all(1)
    nearest = np.abs(grid[inside] - w).sum(1).min() / 2
    assert distance(cells(3).corners[face], weights) <= nearest + 1e-9 <= distance(cells(3).corners[face], weights) + 1 / 12 + 1e-9


def test_map_of_a_plain_conflict():
    # Latency and memory agree, so they outvote accuracy until it has half of the weight: 3/4 of the area.
    chart = priority_map(CONFLICT, THREE)
    assert chart.share == pytest.approx([0.75, 0.25, 0, 0])
    assert chart.answer([1, 1, 1]).tolist() == [True, False, False, False]
    assert chart.region([1, 1, 1]) == pytest.approx(0.75) and chart.radius([1, 1, 1]) == pytest.approx(1 / 6)
    assert chart.beaten.any(1).tolist() == [False, False, False, True]
    assert chart.beaten[3, 2] and not chart.beaten[3, 1]
    # With accuracy at exactly half nothing is decided but what all agree on: 2 beats 3, and leads with that.
    assert chart.ever_first.tolist() == [True, True, True, False]
    moves = chart.drivers([1, 1, 1])
    assert moves["accuracy"] == pytest.approx(1 / 6) and np.isnan([moves["latency"], moves["memory"]]).all()
    assert chart.radius([2, 1, 1]) == 0 and chart.region([2, 1, 1]) == 0


def test_map_over_two_metrics():
    chart = priority_map(CONFLICT, ("accuracy", "latency"))
    assert chart.share == pytest.approx([0.5, 0.5, 0, 0]) and chart.radius([3, 1]) == pytest.approx(1 / 4)
    assert chart.drivers([3, 1])["latency"] == pytest.approx(1 / 4) and np.isnan(chart.drivers([3, 1])["accuracy"])


def test_a_candidate_best_in_everything_is_never_lost():
    chart = priority_map(toy([90.0, 80.0, 70.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), THREE)
    assert chart.region([1, 1, 1]) == pytest.approx(1) and chart.radius([5, 1, 1]) == 1
    assert np.isnan(list(chart.drivers([1, 2, 3]).values())).all()


@FEW
@given(votes(), weights3, weights3)
def test_nothing_changes_within_the_radius(opinion, weights, other):
    chart = PriorityMap(CONFLICT, THREE, opinion)
    a, b = (np.array(w) / sum(w) for w in (weights, other))
    if np.abs(a - b).sum() / 2 < chart.radius(weights) - 1e-9:
        assert (chart.answer(weights) & chart.answer(other)).any()


@FEW
@given(votes(), weights3)
def test_drivers_move_no_less_than_the_radius(opinion, weights):
    chart = PriorityMap(CONFLICT, THREE, opinion)
    for m, moved in enumerate(chart.drivers(weights).values()):
        if not np.isnan(moved):
            assert moved >= chart.radius(weights) - 1e-9
            left = 1 - weights[m] / sum(weights)  # just before, the answer still stands
            t = Fraction(0.999 * moved / left).limit_denominator(10**6)
            near = [(1 - t) * Fraction(w, sum(weights)) + t * (v == m) for v, w in enumerate(weights)]
            assert moved == 0 or (chart.answer(near) & chart.answer(weights)).any()


@CASES
@given(votes())
def test_shares_regions_and_areas_fit_together(opinion):
    chart = PriorityMap(CONFLICT, THREE, opinion)
    assert chart.share.sum() == pytest.approx(1) and (chart.share[~chart.ever_first] == 0).all()
    for point in cells(3).points:
        assert chart.region(point.tolist()) >= chart.share[chart.answer(point.tolist())].sum() - 1e-9


def test_a_dominated_candidate_is_never_alone_in_front_without_indifference():
    for seed in range(30):
        chart = priority_map(make_query(n=9, seed=seed), THREE, scale=0)
        alone = chart.first & (chart.first.sum(1, keepdims=True) == 1)
        assert not alone[:, chart.beaten.any(1)].any()


def test_thresholds_can_be_scaled():
    q = toy([60.0, 60.15], [1.0, 1.0], [1.0, 1.0])
    assert priority_map(q, THREE).votes[0, 1, 0] == 1 and priority_map(q, THREE, scale=2).votes[0, 1, 0] == 0


def test_weights_may_be_large_fractions_but_not_negative():
    chart = priority_map(CONFLICT, THREE)
    huge = [Fraction(10**30 + 1, 3), Fraction(10**30, 6), Fraction(10**30, 6)]
    assert chart.answer(huge).tolist() == chart.answer([3, 1, 1]).tolist()
    with pytest.raises(ValueError, match="weight 1 is -1"):
        chart.answer([1, -1, 1])


def test_unmeasured_metrics_are_left_out_or_refused():
    assert priority_map(CONFLICT, ("accuracy", "energy", "memory")).metrics == ("accuracy", "memory")
    assert priority_map(CONFLICT).metrics == THREE
    with pytest.raises(ValueError, match="none of energy was measured"):
        priority_map(CONFLICT, ("energy",))


def test_labels_say_what_tells_candidates_apart():
    q = make_query(n=4)
    c = q.candidates.assign(model_id=["a", "b", "b", "b"], input_shape=["8x8x3", "8x8x3", "9x9x3", "9x9x3"],
                            precision=["int8", "int8", "int8", "fp32"])
    assert labels(replace(q, candidates=c)) == ["a", "b 8×8×3", "b 9×9×3 int8", "b 9×9×3 fp32"]


def test_triangle_has_a_patch_for_every_cell_and_one_for_every_tie():
    ax = Figure().add_subplot()
    chart = priority_map(toy([60.0, 90.0, 90.0, 70.0], [1.0, 9.0, 9.0, 5.0], [10.0, 90.0, 90.0, 50.0]), THREE)
    plot_simplex(ax, chart, {0: "#0072B2", 1: "#D55E00"}, (2, 1, 1))
    tied = (chart.first[chart.cells.dims == 2].sum(1) > 1).sum()
    assert tied == 2 and len(ax.patches) == 12 + tied
    assert {t.get_text() for t in ax.texts} == set(THREE)
    assert pd.Series([p.get_facecolor()[:3] for p in ax.patches]).nunique() == 3


def test_two_metrics_are_drawn_as_a_bar():
    ax = Figure().add_subplot()
    plot_simplex(ax, priority_map(CONFLICT, ("accuracy", "latency")), {0: "#0072B2", 1: "#D55E00"}, (1, 1))
    spans = sorted((*p.get_xy()[:, 0][[0, 2]], p.get_facecolor()[:3]) for p in ax.patches)
    assert [sorted(s[:2]) for s in spans] == [[0, 0.5], [0.5, 1]] and spans[0][2] != spans[1][2]
