"""Losses against independent formulas, determinism, and saving without pickle."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.fusion import Fusion
from lib.shadow import HardwareRanker, Shadow
from lib.spider import ModelSpider
from lib.training import pairwise_logistic, plackett_luce
from tests.helpers_queries import grid, make_query


def numpy_plackett_luce(scores: np.ndarray, ranks: np.ndarray) -> float:
    present = np.flatnonzero(ranks > 0)
    terms = []
    for i in present:
        rivals = [scores[j] for j in present if ranks[j] >= ranks[i]]
        terms.append(np.log(np.sum(np.exp(rivals))) - scores[i])
    return float(np.mean(terms)) if terms else 0.0


@pytest.mark.parametrize("ranks", [[1, 2, 3, 4], [1, 1, 3, 4], [2, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
def test_plackett_luce_equals_the_formula(ranks: list[int]) -> None:
    scores = np.random.default_rng(1).normal(size=4)
    ours = plackett_luce(torch.tensor(scores)[None], torch.tensor(ranks)[None])[0].item()
    assert ours == pytest.approx(numpy_plackett_luce(scores, np.array(ranks)), abs=1e-9)


def test_plackett_luce_prefers_the_right_order_and_survives_extreme_scores() -> None:
    ranks = torch.tensor([[1, 2, 3]])
    right, wrong = (plackett_luce(torch.tensor([s]), ranks).item() for s in ([3.0, 2.0, 1.0], [1.0, 2.0, 3.0]))
    assert right < wrong
    assert torch.isfinite(plackett_luce(torch.tensor([[1e4, -1e4, 0.0]]), ranks)).all()


def test_pairwise_loss_ignores_ties_and_padding() -> None:
    scores = torch.tensor([[0.3, -0.2, 5.0]])
    assert pairwise_logistic(scores, torch.tensor([[1, 1, 0]])).item() == 0.0
    expected = np.log1p(np.exp(-0.2 - 0.3))
    assert pairwise_logistic(scores, torch.tensor([[1, 2, 0]])).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [ModelSpider, Fusion, HardwareRanker])
def test_same_seed_same_scores_whatever_the_threads(kind: type) -> None:
    queries, scores = grid(2, 2, 6), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        ranker = kind(epochs=2, dim=16, heads=2).fit(queries)
        scores.append(ranker.outputs(queries[0], np.ones(5) / 5 if kind is Fusion else np.zeros(1)))
    torch.set_num_threads(1)
    assert np.array_equal(*scores)


@pytest.mark.parametrize("kind", [ModelSpider, Fusion, HardwareRanker])
def test_saved_and_loaded_scores_are_equal(kind: type, tmp_path) -> None:
    queries = grid(2, 2, 6)
    ranker = kind(epochs=2, dim=16, heads=2).fit(queries)
    ranker.save(tmp_path / "ranker.safetensors")
    again = kind.load(tmp_path / "ranker.safetensors")
    weights = np.eye(5)[0] if kind is Fusion else np.zeros(1)
    assert np.array_equal(ranker.outputs(queries[1], weights), again.outputs(queries[1], weights))


def test_similar_boards_take_part_where_there_are_some() -> None:
    queries = grid(6, 1, 12)
    shadow = Shadow(epochs=2, dim=16, heads=2).fit(queries)
    like, alone = shadow.figures(queries[1])["latency"], shadow.hardware.predict(queries[1])["latency"]
    true = queries[1].values["latency_ms"].to_numpy()
    errors = [np.abs(np.log10(y / true)).mean() for y in (like, alone)]
    assert errors[0] < 0.6 * errors[1]  # the very board was in training
    stranger = replace(queries[1], specs={"processor": "npu"})
    assert np.array_equal(shadow.figures(stranger)["latency"], shadow.hardware.predict(stranger)["latency"])
    shadow.near = None
    assert np.array_equal(shadow.figures(queries[1])["latency"], alone)


def test_a_file_of_another_ranker_is_refused(tmp_path) -> None:
    ModelSpider(epochs=1, dim=16, heads=2).fit(grid(1, 2, 5)).save(tmp_path / "spider.safetensors")
    with pytest.raises(ValueError, match="holds a ModelSpider, not a Fusion"):
        Fusion.load(tmp_path / "spider.safetensors")


def test_untrained_and_unteachable_are_clear_errors() -> None:
    with pytest.raises(ValueError, match="not trained"):
        Fusion().score(make_query(), {"accuracy": 1})
    query = make_query()
    query.values[:] = np.nan
    with pytest.raises(ValueError, match="anything to learn"):
        Fusion(epochs=1).fit([query])


def test_fusion_learns_the_law_and_serves_several_weightings() -> None:
    train = [make_query(b, t, 12, seed=s) for b in range(4) for t in range(2) for s in range(3)]
    fusion = Fusion(epochs=60, dim=32).fit(train)
    query = make_query(1, 1, 12, seed=0)
    fast, accurate = fusion.score(query, {"latency": 1}), fusion.score(query, {"accuracy": 1})
    assert np.corrcoef(fast, -np.log(query.values["latency_ms"]))[0, 1] > 0.8
    assert np.corrcoef(accurate, query.values["accuracy"])[0, 1] > 0.8
