"""Constraints, other rules of choice, simulated users and the energy queries."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lib.benchmark import load_benchmark
from lib.choice import (RULES, USERS, cost, energy_queries, energy_runs, feasible, held_out_regret, lexicographic, presets, topsis,
                        weighted_sum)
from tests.helpers_queries import grid, make_query

THREE = ("accuracy", "latency", "memory")


def toy(accuracy, latency, memory):
    q = make_query(n=len(accuracy))
    return replace(q, values=q.values.assign(accuracy=accuracy, latency_ms=latency, memory_kib=memory))


CONFLICT = toy([60.0, 90.0, 75.0], [1.0, 9.0, 5.0], [10.0, 90.0, 50.0])


def test_limits_are_at_most_and_for_accuracy_at_least():
    assert feasible(CONFLICT, {}).all()
    assert feasible(CONFLICT, {"latency": 5}).tolist() == [True, False, True]
    assert feasible(CONFLICT, {"accuracy": 75, "memory": 50}).tolist() == [False, False, True]


def test_what_was_not_measured_is_not_known_to_fit():
    q = toy([60.0, 90.0, 75.0], [1.0, 2.0, 3.0], [10.0, np.nan, 50.0])
    assert feasible(q, {"memory": 1e9}).tolist() == [True, False, True]


@pytest.mark.parametrize("limits, message", [({"energy": 1}, "not measured"), ({"speed": 1}, "unknown metric 'speed'")])
def test_limits_on_unknown_metrics_are_refused(limits, message):
    with pytest.raises(ValueError, match=message):
        feasible(CONFLICT, limits)


def test_weighted_sum_by_hand():
    assert weighted_sum(CONFLICT, THREE, np.array([[1, 1, 1], [4, 1, 1]])) == pytest.approx(
        np.array([[2, 1, 0.5 + 0.5 + 0.5], [2, 4, 3]]))
    logs = weighted_sum(CONFLICT, THREE[:2], np.array([[0, 1]]), log=True)
    assert logs[0] == pytest.approx([1, 0, 1 - np.log(5) / np.log(9)])


def test_topsis_by_hand():
    # One metric: distance from the worst over the range.
    assert topsis(CONFLICT, ["accuracy"], np.array([[1]])) == pytest.approx(np.array([[0, 1, 0.5]]))
    assert topsis(CONFLICT, THREE, np.ones((1, 3)))[0, 0] > topsis(CONFLICT, THREE, np.ones((1, 3)))[0, 1]


def test_lexicographic_stays_with_the_heaviest_metric_within_its_threshold():
    q = toy([90.0, 90.05, 70.0], [5.0, 9.0, 1.0], [1.0, 1.0, 1.0])
    table = lexicographic(q, THREE, np.array([[3, 2, 1], [1, 2, 3], [1, 0, 0]]))
    assert table[0].argmax() == 0  # 90.0 and 90.05 are equal, latency decides
    assert table[1].argmax() == 2  # memory says nothing, latency decides
    assert table[2, 0] == table[2, 1] > table[2, 2]


def test_lexicographic_does_not_choose_the_unmeasured():
    q = toy([60.0, 90.0, 75.0], [np.nan, 9.0, 5.0], [10.0, 90.0, 50.0])
    assert lexicographic(q, ["latency"], np.array([[1]]))[0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("missing", [False, True])
def test_every_rule_ranks_the_dominant_first_and_ignores_the_scale_of_weights(rule, missing):
    q = make_query(n=9, missing=missing)
    best = {"accuracy": 99.0, "latency_ms": 0.1, "memory_kib": 1.0}
    values = q.values.copy()
    for column, value in best.items():
        values.loc[4, column] = value
    table = RULES[rule](replace(q, values=values), THREE, np.array([[1, 1, 1], [3, 2, 1], [6, 4, 2], [0, 0, 1]]))
    assert table.shape == (4, 9) and np.isfinite(table).all()
    assert (table.argmax(1) == 4).all()
    assert (np.argsort(table[1], kind="stable") == np.argsort(table[2], kind="stable")).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_metric_without_weight_has_no_say(rule):
    q, weights = make_query(n=9), np.array([[2, 1, 0]])
    other = replace(q, values=q.values.assign(memory_kib=q.values["memory_kib"].to_numpy()[::-1]))
    assert np.allclose(RULES[rule](q, THREE, weights), RULES[rule](other, THREE, weights))


@pytest.mark.parametrize("kind", USERS)
def test_users_want_more_accuracy_and_less_of_the_rest(kind):
    draws = np.random.default_rng(0).random((30, 3))
    q = toy([60.0, 61.0, 80.0], [1.0, 1.0, 9.0], [1.0, 1.0, 9.0])
    wanted = USERS[kind](q, THREE, draws)
    assert wanted.shape == (30, 3) and (wanted[:, 1] >= wanted[:, 0] - 1e-9).all()
    dominated = toy([80.0, 60.0, 50.0], [1.0, 5.0, 9.0], [1.0, 5.0, 9.0])
    assert (USERS[kind](dominated, THREE, draws).argmax(1) == 0).all()


def test_a_user_with_limits_takes_the_most_accurate_that_fits():
    q = toy([60.0, 90.0, 75.0, 80.0], [1.0, 9.0, 5.0, 8.0], [1.0, 9.0, 5.0, 8.0])
    loose, tight = np.array([[0.5, 0.0, 0.0]]), np.array([[0.5, 1.0, 1.0]])  # limits: quantiles 0 and 0.8 of goodness
    assert USERS["hard limits"](q, THREE, loose).argmax() == 1
    assert USERS["hard limits"](q, THREE, tight).argmax() == 0


def test_regret_is_a_share_held_out_and_repeatable():
    queries = grid(4, 4, 6)
    table = held_out_regret(queries, THREE, count=5, n_folds=2)
    assert len(table) == len(queries) * len(RULES) * len(USERS)
    assert table[["regret", "equal"]].stack().between(0, 1).all()
    assert table.equals(held_out_regret(queries, THREE, count=5, n_folds=2))
    # Fitted on one half of the chips and sets, a rule that can express the user's wish loses little on the other.
    mean = table.groupby(["rule", "users"])["regret"].mean()
    assert mean["Log sum", "points per doubling"] < 0.15


def board(q, **specs):
    return replace(q, specs={**q.specs, **specs})


def test_uses_become_limits_in_the_units_of_the_metrics():
    q = board(CONFLICT, ram_mib=0.5, flash_mib=2.0)
    uses = presets(q, fps=20, joules=2000, inferences=500_000, small=(64, 128), power_mw=40)
    assert uses["real-time camera"].limits == {"memory": 512, "storage": 2048, "latency": 50}
    # 2000 J / 500 000 = 4 mJ; at 40 mW that is 100 ms.
    assert uses["battery sensor"] == ({"memory": 512, "storage": 2048, "latency": 100}, {"accuracy": 1, "latency": 1})
    assert uses["cheapest part"] == ({"memory": 64, "storage": 128}, {"accuracy": 1})
    assert uses["best quality"].limits["latency"] == 1000


def test_uses_without_the_figures_they_need_are_left_out():
    q = board(replace(CONFLICT, task="audio_event_detection/esc10"), flash_mib=0.0)
    uses = presets(q, 20, 2000, 500_000, (64, 128))
    assert set(uses) == {"cheapest part", "best quality"} and uses["best quality"].limits == {"latency": 1000}
    measured = replace(CONFLICT, values=CONFLICT.values.assign(energy_uj=[1.0, 2.0, 3.0], memory_kib=np.nan))
    uses = presets(measured, 20, 2000, 500_000, (64, 128))
    assert uses["battery sensor"].limits == {"energy": 4000} and "cheapest part" not in uses


def test_cost_is_in_points_and_in_doublings_of_the_least():
    found = cost(CONFLICT, THREE, np.array([False, True, True]))
    assert found["accuracy"] == pytest.approx(90 - (90 + 75) / 2)
    assert [found["latency"], found["memory"]] == pytest.approx([np.log2(9 * 5) / 2] * 2)
    unknown = replace(CONFLICT, values=CONFLICT.values.assign(memory_kib=[10.0, np.nan, 50.0]))
    assert np.isnan(cost(unknown, THREE, np.array([False, True, False]))["memory"])


def test_power_is_energy_over_latency():
    runs = energy_runs(load_benchmark())
    assert runs["power"].between(1, 500).all()  # mW
    assert (np.log(runs["power"] / runs["power_mw"]).abs() < np.log(1.4)).mean() > 0.95  # the published power, another run
    assert set(runs["volts"].dropna()) == {1.8, 3.0, 3.3}


def test_energy_queries_hold_one_supply_voltage_and_distinct_systems():
    queries = energy_queries(load_benchmark())
    assert len(queries) == 4
    for q in queries:
        assert q.metrics == ("accuracy", "latency", "energy") and len(q) >= 8
        assert not q.candidates["model_id"].duplicated().any()
        assert q.values["energy_uj"].is_monotonic_increasing and q.values[["accuracy", "latency_ms"]].notna().all(axis=None)
        assert not q.candidates["model_id"].str.contains("h7a3|rx65n|ra6m4").any()  # measured at 3 V or more
        assert (q.values["accuracy"] > 80).all()
