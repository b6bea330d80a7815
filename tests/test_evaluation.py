"""Metrics against brute force, and an audit that no split leaks."""
from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau, weightedtau

from lib import evaluation
from lib.baselines import BASELINES
from lib.noise import Noise
from tests.helpers_queries import grid, make_query


def test_weighted_tau_is_scipys_with_truth_first() -> None:
    rng = np.random.default_rng(0)
    truth, score = rng.normal(size=12), rng.normal(size=12)
    assert evaluation.weighted_tau(truth, score) == weightedtau(truth, score, rank=None).statistic
    assert evaluation.weighted_tau(truth, truth) == pytest.approx(1)
    assert evaluation.weighted_tau(truth, -truth) == pytest.approx(-1)
    assert evaluation.weighted_tau(truth, np.ones(12)) == 0
    assert np.isnan(evaluation.weighted_tau(np.ones(12), score))


def test_weighted_tau_punishes_mistakes_at_the_top_more() -> None:
    truth = np.arange(8.0)[::-1]
    top, bottom = truth.copy(), truth.copy()
    top[[0, 1]], bottom[[6, 7]] = top[[1, 0]], bottom[[7, 6]]
    assert kendalltau(truth, top).statistic == pytest.approx(kendalltau(truth, bottom).statistic)
    assert evaluation.weighted_tau(truth, top) < evaluation.weighted_tau(truth, bottom)


@pytest.mark.parametrize("seed", range(20))
def test_hit_at_k_equals_the_mean_over_all_orders_of_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, score = rng.integers(0, 3, 6).astype(float), rng.integers(0, 3, 6).astype(float)
    hits = [truth.max() in truth[list(order)][:2] for order in itertools.permutations(range(6))
            if all(score[a] >= score[b] for a, b in itertools.pairwise(order))]
    assert evaluation.hit_at_k(truth, score, 2) == pytest.approx(np.mean(hits))


def test_regret_averages_over_tied_recommendations() -> None:
    truth = np.array([4.0, 2.0, 0.0])
    assert evaluation.top1_regret(truth, truth) == 0
    assert evaluation.top1_regret(truth, -truth) == 1
    assert evaluation.top1_regret(truth, np.array([1.0, 1.0, 0.0])) == pytest.approx(0.25)


def test_losses_are_in_units() -> None:
    query = make_query()
    truth, score = query.values["accuracy"].to_numpy(), -query.values["latency_ms"].to_numpy()
    out = evaluation.losses(query, truth, score)
    best, pick = truth.argmax(), score.argmax()
    assert out["accuracy_loss"] == pytest.approx(truth[best] - truth[pick])
    assert out["latency_ratio"] == pytest.approx(score[pick] / score[best])


def test_bootstrap_resamples_groups_not_rows() -> None:
    values, groups = np.repeat([0.0, 1.0, 0.0, 1.0], 50), np.repeat([0, 1, 2, 3], 50)
    mean, low, high = evaluation.bootstrap_interval(values, groups)
    _, low_rows, high_rows = evaluation.bootstrap_interval(values)
    assert mean == 0.5
    assert high - low > 3 * (high_rows - low_rows)
    assert all(np.isnan(evaluation.bootstrap_interval([np.nan])))


@pytest.mark.parametrize("protocol", ["unseen_device", "unseen_task", "unseen_both", "few_shot(3)"])
def test_no_group_crosses_a_split(protocol: str) -> None:
    queries = grid(8, 6)
    tested: list[str] = []
    for split in evaluation.splits(queries, protocol, n_folds=3, seed=1):
        train_soc, test_soc = ({q.soc for q in part} for part in split[1:3])
        train_set, test_set = ({q.parent for q in part} for part in split[1:3])
        if protocol in ("unseen_device", "unseen_both", "few_shot(3)"):
            assert not train_soc & test_soc
        if protocol in ("unseen_task", "unseen_both"):
            assert not train_set & test_set
        tested += [q.name for q in split.test]
    assert sorted(tested) == sorted(q.name for q in queries)


def test_a_family_held_out_is_never_trained_on() -> None:
    queries = grid(3, 2, 24)
    for split in evaluation.splits(queries, "unseen_model", n_folds=2):
        train = {f for q in split.train for f in q.candidates["family"]}
        test = {f for q in split.test for f in q.candidates["family"]}
        assert train and test and not train & test


def test_splits_do_not_depend_on_the_order_of_queries() -> None:
    queries = grid(8, 2)
    one = [{q.name for q in s.test} for s in evaluation.splits(queries, "unseen_device", 3)]
    two = [{q.name for q in s.test} for s in evaluation.splits(queries[::-1], "unseen_device", 3)]
    assert one == two


def test_bad_protocols_are_refused() -> None:
    with pytest.raises(ValueError, match="protocol 'unseen' is unknown"):
        list(evaluation.splits(grid(2, 2), "unseen"))
    with pytest.raises(ValueError, match="only one source"):
        list(evaluation.splits(grid(2, 2), "unseen_source"))


def test_revealed_measurements_are_few_repeatable_and_true() -> None:
    query = make_query(n=10)
    known = evaluation.revealed(query, 3, seed=0)
    assert np.isfinite(known).sum() == 3
    assert np.array_equal(known, evaluation.revealed(query, 3, seed=0), equal_nan=True)
    mask = np.isfinite(known)
    assert np.array_equal(known[mask], query.values["latency_ms"].to_numpy()[mask])


def test_cross_validation_is_the_same_in_one_process_and_in_two() -> None:
    chosen = {name: BASELINES[name] for name in ("Boosted trees", "FLOPs", "Mean rank", "Random")}
    weights = {"balanced": {"accuracy": 1, "latency": 1}, "fast": {"latency": 1}}
    one = evaluation.cross_validate(chosen, grid(6, 2), "unseen_device", weights, n_folds=3, n_jobs=1)
    two = evaluation.cross_validate(chosen, grid(6, 2), "unseen_device", weights, n_folds=3, n_jobs=2)
    assert one.equals(two)
    assert len(one) == 4 * 2 * 12
    best = evaluation.summarise(one).set_index("ranker")["mean"]
    assert best["Boosted trees"] > best["Random"] + 0.3


def test_noise_ceiling_falls_with_noise() -> None:
    weights = {"accuracy": 1, "latency": 1}
    quiet, loud = ({"accuracy": Noise(0.1, a, True), "latency": Noise(0.03, b, False)} for a, b in ((0.01, 0.001), (5.0, 0.5)))
    small, large = (evaluation.noise_ceiling(replace(make_query(n=12), noise=n), weights) for n in (quiet, loud))
    assert 0.97 < small <= 1
    assert large < small - 0.05


def test_the_best_other_board_has_another_chip_and_the_same_processor() -> None:
    queries = [make_query(board=b, n=10) for b in (0, 1, 5, 7)]  # chips 0, 0, 2, 3; board 5 behaves as board 0
    found = evaluation.best_other_board(queries)
    assert found["soc"].tolist() == ["soc0", "soc0", "soc2", "soc3"]
    assert found["tau"].iloc[[0, 2]].min() > 0.95 > found["tau"].iloc[[1, 3]].max()
    assert evaluation.best_other_board(queries[:2]).empty  # one chip: nobody else to copy from
