"""Each baseline does what its name says on queries whose law is known."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lib.adapt import FewShot
from lib.baselines import BASELINES, BoostedTrees, Flops, MeanRank, NearestDevice, Parameters, distance
from lib.evaluation import weighted_tau
from lib.noise import Noise
from tests.helpers_queries import grid, make_query


def test_counts_rank_small_models_first_and_unknown_last() -> None:
    query = make_query(n=6)
    query.candidates.loc[2, "macs_m"] = np.nan
    order = Flops().fit([]).score(query, {}).argsort()[::-1]
    macs = query.candidates["macs_m"].to_numpy()[order]
    assert np.isnan(macs[-1]) and (np.diff(macs[:-1]) > 0).all()
    assert Parameters().score(query, {}).argmax() == query.candidates["params_m"].argmin()


def test_mean_rank_of_identical_boards_is_the_truth() -> None:
    train = [make_query(board=b) for b in (0, 5, 10)]  # factors repeat every five boards
    query, weights = replace(make_query(board=15), noise={"latency": Noise(0.0, 0.01, False)}), {"latency": 1}
    assert weighted_tau(query.truth(weights).scores, MeanRank().fit(train).score(query, weights)) == pytest.approx(1)


def test_mean_rank_falls_back_to_the_family() -> None:
    means = MeanRank().fit(grid(2, 1))
    stranger = make_query(seed=9)
    assert stranger.candidates["model_id"].isin(grid(1, 1)[0].candidates["model_id"]).sum() == 0
    assert np.ptp(means.votes(stranger)["latency"]) > 0


def test_nearest_device_takes_the_board_with_the_closest_data_sheet() -> None:
    train = [make_query(board=0), make_query(board=3)]
    query, weights = make_query(board=3), {"latency": 1}
    score = NearestDevice().fit(train).score(query, weights)
    assert weighted_tau(query.truth(weights).scores, score) == pytest.approx(1)


def test_distance_uses_only_what_both_sheets_state() -> None:
    a, b = {"clock_mhz": 1000.0, "isa": "armv8-a"}, {"clock_mhz": 1000.0, "cores": 4.0}
    assert distance(a, b) == 0
    assert distance(a, {"isa": "armv7-a"}) == 1
    assert distance(a, {"year": 2020.0}) == 1
    assert distance({"clock_mhz": 100.0}, {"clock_mhz": 1000.0}) == pytest.approx(1)


def test_trees_predict_in_units_and_repeat_themselves() -> None:
    train = grid(4, 2, 16)
    one, two = (BoostedTrees(seed=1).fit(train).votes(train[0]) for _ in range(2))
    assert all(np.array_equal(one[m], two[m]) for m in one)
    error = np.abs(-one["latency"] - np.log10(train[0].values["latency_ms"]))
    assert np.median(error) < 0.15


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_ranks_a_board_with_no_data_sheet(name: str) -> None:
    bare = replace(make_query(board=7, seed=3), specs={}, prototypes={})
    score = BASELINES[name](0).fit(grid(3, 2)).score(bare, {"accuracy": 1, "latency": 1})
    assert score.shape == (len(bare),) and np.isfinite(score).all()


def test_few_measurements_correct_a_wrong_prediction() -> None:
    few = FewShot().fit([make_query(board=b, task=0, n=12) for b in range(12)])
    query = make_query(board=13, n=12)
    true = query.values["latency_ms"].to_numpy()
    prior = query.candidates["macs_m"].to_numpy() / 50  # right shape, wrong factor
    measured = np.where(np.arange(12) % 3 == 0, true, np.nan)
    after, deviation = few.adapt(query, prior, measured)
    hidden = np.isnan(measured)
    errors = [np.abs(np.log10(x[hidden] / true[hidden])).mean() for x in (prior, after)]
    assert errors[1] < 0.5 * errors[0]
    assert (deviation[~hidden] < deviation[hidden].min()).all()
    assert np.array_equal(few.adapt(query, prior, np.full(12, np.nan))[0], prior)
