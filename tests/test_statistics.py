"""Statistics: against brute force, against closed forms, and against other libraries."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.ensemble import HistGradientBoostingRegressor
from statsmodels.stats.multitest import multipletests

from lib import statistics as s

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    global RNG
    RNG = np.random.default_rng(7)


# ------------------------------------------------------------------------------------------------ pairs, effects

def pairs_table() -> pd.DataFrame:
    return pd.DataFrame({
        "device": ["a", "a", "a", "b", "b", "c"],
        "threads": [1.0, 1.0, 1.0, np.nan, np.nan, 1.0],
        "precision": ["fp32", "int8", "int8", "fp32", "int8", "fp32"],
        "ms": [8.0, 2.0, 4.0, 5.0, 10.0, 1.0]})


def test_pairs_need_both_sides_and_average_repeats():
    found = s.pair_up(pairs_table(), ["device", "threads"], "fp32", "int8", ["ms"])
    assert found[["device", "ms_base", "ms_other"]].values.tolist() == [["a", 8.0, 3.0], ["b", 5.0, 10.0]]


def test_pairs_never_cross_a_key():
    table = pairs_table().assign(threads=[1, 2, 4, 1, 2, 1])
    assert s.pair_up(table, ["device", "threads"], "fp32", "int8", ["ms"]).empty


def test_no_pair_gives_an_empty_table_with_its_columns():
    found = s.pair_up(pairs_table(), ["device"], "fp32", "fp16", ["ms"])
    assert found.empty and list(found) == ["device", "ms_base", "ms_other"]


def test_every_unit_counts_once():
    many = s.effect([1.0] * 100 + [0, 0, 0, 0], ["x"] * 100 + list("abcd"))
    assert many.estimate == pytest.approx(0.2)
    assert (many.units, many.rows) == (5, 104)


def test_effect_of_few_units_has_no_interval():
    few = s.effect([1.0, 2.0, 3.0, 4.0], list("abcd"))
    assert few.estimate == 2.5 and np.isnan([few.low, few.high, few.p]).all()
    assert np.isnan(s.effect([], []).estimate)


def test_effect_ignores_missing_values_and_uses_the_centre():
    e = s.effect([0.0, 1, 2, 3, 100, np.nan], list("abcdef"), centre=np.median)
    assert e.estimate == 2 and e.units == 5 and e.low <= 2 <= e.high


def test_interval_covers_the_truth_about_as_often_as_it_says():
    draws = [s.effect(RNG.normal(1, 1, 60), range(60), seed=i, draws=200) for i in range(200)]
    assert 0.88 <= np.mean([e.low <= 1 <= e.high for e in draws]) <= 0.99


def test_p_is_small_only_when_there_is_an_effect():
    assert s.effect(RNG.normal(1, 1, 40), range(40)).p < 1e-4
    assert s.effect(np.zeros(10), range(10)).p == 1.0


def test_false_discovery_agrees_with_statsmodels_and_keeps_missing_tests():
    p = RNG.uniform(size=25) ** 3
    assert s.false_discovery(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])
    assert np.isnan(s.false_discovery([0.01, np.nan])).tolist() == [False, True]
    assert s.false_discovery([0.01, np.nan])[0] == 0.01
    assert len(s.false_discovery([])) == 0


def test_effects_correct_over_their_groups():
    table = pd.DataFrame({"g": np.repeat(list("abc"), 20), "u": np.tile(range(20), 3), "v": RNG.normal(0.5, 1, 60)})
    found = s.effects(table, "g", "v", "u")
    assert found["q"].to_numpy() == pytest.approx(multipletests(found["p"], method="fdr_bh")[1])


def test_a_claim_that_hangs_on_one_source_is_seen():
    table = pd.DataFrame({"source": ["big"] * 10 + ["small"] * 10, "unit": range(20), "v": [4.0] * 10 + [0.0] * 10})
    found = s.leave_one_out(table, "source", "v", "unit").set_index("without")["estimate"]
    assert found.to_dict() == {"nothing": 2.0, "big": 0.0, "small": 4.0}


# ------------------------------------------------------------------------------------------------ ranks, rules

def test_rank_moves_of_equal_and_reversed_rankings():
    same, reverse = s.rank_moves([3, 2, 1], [30, 20, 10]), s.rank_moves([3, 2, 1], [1, 2, 3])
    assert same == {"mean_shift": 0.0, "tau": 1.0, "top_changes": False}
    assert reverse == {"mean_shift": pytest.approx(4 / 3), "tau": pytest.approx(-1), "top_changes": True}


def test_shared_first_place_is_no_change():
    assert not s.rank_moves([2, 2, 1], [1, 3, 2])["top_changes"]
    assert s.rank_moves([2, 1, 1], [1, 3, 2])["top_changes"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("uvw"), st.booleans()), min_size=2, max_size=20))
def test_rule_errors_are_those_of_leaving_each_unit_out(rows):
    frame = pd.DataFrame(rows, columns=["case", "unit", "faster"])

    def vote(part: pd.DataFrame) -> float:
        cells = part.groupby(["case", "unit"])["faster"].mean()
        return float((2 * cells - 1).sum())

    expected = []
    for row in frame.itertuples():
        others = frame[frame["unit"] != row.unit]
        same = others[others["case"] == row.case]
        expected.append((vote(same if len(same) else others) > 1e-9) != row.faster)
    assert s.rule_errors(frame, "case", "faster", "unit").tolist() == expected


# ------------------------------------------------------------------------------------------------ mixed models, variance

def crossed_table(rows: int, columns: int, spread: tuple[float, float, float], keep: float = 1.0) -> pd.DataFrame:
    a, b, e = (RNG.normal(0, sd, n) for sd, n in zip(spread, (rows, columns, rows * columns)))
    table = pd.DataFrame([(f"r{i}", f"c{j}", a[i] + b[j]) for i in range(rows) for j in range(columns)],
                         columns=["row", "column", "y"])
    table["y"] += e
    return table[RNG.random(len(table)) < keep].reset_index(drop=True)


def test_mixed_model_finds_the_effect_and_the_variances():
    table = crossed_table(30, 12, (1.0, 0.5, 0.3))
    table["fast"] = (table["row"].str[1:].astype(int) % 2).astype(float)
    table["y"] += 2 * table["fast"]
    model = s.crossed_model(table, "y ~ fast", ["row", "column"])
    fast = model.fixed.set_index("term").loc["fast"]
    assert fast.low < 2 < fast.high and fast.p < 0.01
    assert model.variances["residual"] == pytest.approx(0.09, rel=0.25)
    assert model.variances["row"] > model.variances["column"] > 0.05
    assert len(model.residuals) == len(model.fitted) == len(table)


def test_model_that_cannot_be_fitted_says_so():
    table = crossed_table(3, 3, (1, 1, 1)).assign(same=1.0)
    with pytest.raises(ValueError, match="cannot be fitted to 9 rows"):
        s.crossed_model(table, "y ~ same", ["row"])


def test_two_way_effects_are_exact_without_noise_in_an_unbalanced_table():
    table = crossed_table(8, 6, (1, 2, 0), keep=0.7)
    rows, columns, residuals = s.two_way(table, "y", "row", "column")
    assert np.abs(residuals).max() < 1e-9
    rebuilt = table["row"].map(rows) + table["column"].map(columns)
    assert (table["y"] - rebuilt).std() < 1e-9
    assert rows.mean() == pytest.approx(0, abs=1e-12) == columns.mean()


def test_variances_of_a_balanced_table_are_those_of_the_mean_squares():
    table = crossed_table(9, 7, (1, 2, 0.5))
    square = table.pivot(index="row", columns="column", values="y")
    rest = square.sub(square.mean(axis=1), axis=0).sub(square.mean(axis=0), axis=1) + square.to_numpy().mean()
    rest = (rest ** 2).to_numpy().sum() / (8 * 6)
    found = s.variance_components(table, "y", "row", "column")
    assert found["rest"] == pytest.approx(rest)
    assert found["row"] == pytest.approx(square.mean(axis=1).var() - rest / 7)
    assert found["column"] == pytest.approx(square.mean(axis=0).var() - rest / 9)


def test_variances_agree_with_the_mixed_model_in_an_unbalanced_table():
    table = crossed_table(25, 15, (1.5, 1.0, 0.5), keep=0.8)
    moments, reml = s.variance_components(table, "y", "row", "column"), s.crossed_model(table, "y ~ 1", ["row", "column"])
    for name, other in (("row", "row"), ("column", "column"), ("rest", "residual")):
        assert moments[name] == pytest.approx(reml.variances[other], rel=0.1)


def test_variance_shares_sum_to_a_hundred_and_cap_the_noise():
    table = crossed_table(12, 10, (1, 1, 0.5))
    parts = s.variance_shares(table, "y", "row", "column", noise=0.1, draws=40)
    assert parts["share"].sum() == pytest.approx(100)
    assert (parts["low"] <= parts["high"]).all()
    everything = s.variance_shares(table, "y", "row", "column", noise=9.0, draws=5).set_index("part")["share"]
    assert everything["interaction"] == 0 and everything["noise"] > 0


# ------------------------------------------------------------------------------------------------ correlations

def test_rank_correlation_is_spearmans():
    table = pd.DataFrame(RNG.normal(size=(40, 3)), columns=["y", "a", "b"])
    table.loc[3, "a"] = np.nan
    found = s.rank_correlations(table, "y", ["a", "b"]).set_index("column")
    known = table.dropna(subset=["a"])
    assert found.loc["a", "rho"] == pytest.approx(stats.spearmanr(known["y"], known["a"]).statistic)
    assert found.loc["a", "n"] == 39 and found.loc["a", "partial"] == found.loc["a", "rho"]
    assert found.loc["b", "p"] == pytest.approx(stats.spearmanr(table["y"], table["b"]).pvalue)


def test_partial_rank_correlation_by_its_formula_and_for_a_confounder():
    cause = RNG.normal(size=300)
    table = pd.DataFrame({"y": cause + 0.3 * RNG.normal(size=300), "x": cause + 0.3 * RNG.normal(size=300), "z": cause})
    found = s.rank_correlations(table, "y", ["x"], given=["z"]).iloc[0]
    r = table.corr("spearman")
    formula = (r.loc["y", "x"] - r.loc["y", "z"] * r.loc["x", "z"]) / np.sqrt((1 - r.loc["y", "z"] ** 2) * (1 - r.loc["x", "z"] ** 2))
    assert found["partial"] == pytest.approx(formula)
    assert found["rho"] > 0.8 and abs(found["partial"]) < 0.25


def test_too_few_or_constant_columns_are_left_out():
    table = pd.DataFrame({"y": range(8), "a": range(8), "b": [1.0] * 8})
    assert s.rank_correlations(table, "y", ["a", "b"]).empty


# ------------------------------------------------------------------------------------------------ roofline, prediction

def test_roofline_recovers_its_own_parameters():
    macs, traffic = RNG.uniform(50, 5000, 20), RNG.uniform(5, 500, 20)
    found = s.fit_roofline(macs, traffic, macs / 25 + traffic / 4 + 3)
    assert (found.gmacs, found.gbs, found.overhead_ms) == pytest.approx((25, 4, 3))
    assert found.error < 1e-9
    assert found.memory_share([100], [16]) == pytest.approx([0.5])


def test_roofline_without_memory_time_is_compute_bound():
    macs = RNG.uniform(50, 5000, 20)
    found = s.fit_roofline(macs, RNG.uniform(5, 500, 20), macs / 25)
    assert found.gmacs == pytest.approx(25) and found.gbs > 1e6
    assert (found.memory_share([100.0], [10.0]) < 1e-3).all()


def prediction_table() -> pd.DataFrame:
    table = pd.DataFrame({"unit": np.repeat([f"u{i}" for i in range(12)], 15), "x": RNG.normal(size=180)})
    table["word"] = np.where(table["x"] > 0, "big", "small")
    return table.assign(y=3 * table["x"] + 0.1 * RNG.normal(size=180))


@pytest.mark.parametrize("regressor", [None, HistGradientBoostingRegressor(max_iter=30)], ids=["line", "trees"])
def test_predictions_learn_and_do_not_leak(regressor):
    table = prediction_table()
    first = s.grouped_predictions(table, "y", "unit", ["x"], ["word"], regressor)
    assert np.corrcoef(first, table["y"])[0, 1] > 0.9
    changed = table.assign(y=table["y"].where(table["unit"] != "u3", 1000.0))
    second = s.grouped_predictions(changed, "y", "unit", ["x"], ["word"], regressor)
    own = table["unit"] == "u3"
    assert second[own] == pytest.approx(first[own]), "a unit's own figures must not reach its predictions"
    assert not np.allclose(second[~own], first[~own])


def test_predictions_survive_missing_values():
    table = prediction_table()
    table.loc[::7, "x"], table.loc[::5, "word"] = np.nan, np.nan
    assert np.isfinite(s.grouped_predictions(table, "y", "unit", ["x"], ["word"])).all()


def test_scores_of_perfect_doubled_and_constant_predictions():
    table = pd.DataFrame({"p": ["a"] * 5, "y": [1.0, 2, 3, 4, 5]})
    bounds = {"near": 1.1, "far": 2.5}
    perfect, doubled, flat = (s.prediction_scores(table.assign(g=g), "y", "g", "p", bounds).iloc[0]
                              for g in (table["y"], table["y"] + 1, 3.0))
    assert (perfect.factor, perfect.near, perfect.tau) == (1.0, 100.0, pytest.approx(1.0))
    assert (doubled.factor, doubled.near, doubled.far) == (2.0, 0.0, 100.0)
    assert flat.tau == 0.0
