"""The loop-free block equals attention run once per PTM; the context matters where it should."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.benchmark import task_queries
from lib.spider import ModelSpider, SimilarityBlock, evidence_of, ranks_of, rerank
from lib.tokens import encode
from tests.helpers_queries import grid, make_query


def reference(block: SimilarityBlock, ptm: torch.Tensor, context: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The original design: torch's own attention over [PTM, context] for each PTM, first position kept."""
    dim, out = ptm.shape[-1], []
    attention = torch.nn.MultiheadAttention(dim, block.heads, batch_first=True)
    attention.in_proj_weight.data = torch.cat([block.query.weight, block.key.weight, block.value.weight])
    attention.in_proj_bias.data = torch.cat([block.query.bias, block.key.bias, block.value.bias])
    attention.out_proj.load_state_dict(block.project.state_dict())
    for m in range(ptm.shape[1]):
        sequence = torch.cat([ptm[:, m:m + 1], context], 1)
        hidden = torch.cat([torch.zeros(len(mask), 1, dtype=torch.bool), ~mask], 1)
        mixed = attention(sequence, sequence, sequence, key_padding_mask=hidden)[0][:, :1]
        x = block.norm(ptm[:, m:m + 1] + mixed)
        out.append(block.norm_out(x + block.feed_forward(x)))
    return torch.cat(out, 1)


@pytest.mark.parametrize("heads", [1, 4])
def test_block_equals_the_loop_over_ptms(heads: int) -> None:
    torch.manual_seed(0)
    block = SimilarityBlock(32, heads).eval()
    ptm, context = torch.randn(3, 7, 32), torch.randn(3, 5, 32)
    mask = torch.rand(3, 5) > 0.3
    with torch.no_grad():
        fast, weights = block(ptm, context, mask)
        assert torch.allclose(fast, reference(block, ptm, context, mask), atol=1e-5)
    assert torch.allclose(weights.sum(-1), torch.ones(3, heads, 7), atol=1e-5)
    assert (weights[..., 1:].permute(0, 3, 1, 2)[~mask] == 0).all()


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        SimilarityBlock(30, 4)


def test_scores_in_blocks_equal_scores_at_once_whatever_the_threads() -> None:
    queries = grid(1, 2, 9)
    ranker = ModelSpider(epochs=1, dim=16, heads=2).fit(queries)
    batch, weights = encode(queries[:1], ranker.vocabulary), torch.zeros(1, 1)
    with torch.no_grad():
        one, two = (ranker.module.score_blocks(batch, weights, 2, threads) for threads in (1, 2))
        assert torch.equal(one, two)
        assert torch.allclose(one, ranker.module(batch, weights), atol=1e-6)


def test_model_spider_is_blind_to_hardware() -> None:
    ranker = ModelSpider(epochs=2, dim=16, heads=2).fit(grid(2, 2, 6))
    slow, fast = make_query(board=0, n=6), make_query(board=3, n=6)
    assert np.array_equal(ranker.score(slow, {"latency": 1}), ranker.score(fast, {"accuracy": 1}))


def test_order_of_candidates_does_not_matter() -> None:
    ranker = ModelSpider(epochs=2, dim=16, heads=2).fit(grid(2, 2, 6))
    query, order = make_query(n=6), np.array([3, 1, 5, 0, 2, 4])
    assert np.allclose(ranker.score(query)[order], ranker.score(query.subset(order)), atol=1e-6)


def test_one_query_a_task() -> None:
    assert [q.task for q in task_queries(grid(3, 2))] == ["image_classification/set0", "image_classification/set1"]


def test_ranks_share_ties_and_mark_the_unmeasured() -> None:
    assert ranks_of(np.array([3.0, np.nan, 5.0, 3.0])).tolist() == [2, 0, 1, 2]
    assert ranks_of(np.array([3.0, np.nan, 5.0, 3.0]), -1).tolist() == [1, 0, 3, 1]


# ------------------------------------------------------------------------------ second stage
@st.composite
def stages(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores with ties, evidence with ties and gaps, and a k."""
    n = draw(st.integers(1, 8))
    scores = draw(st.lists(st.sampled_from([-1.5, 0.0, 0.25, 2.0, 1e9]), min_size=n, max_size=n))
    evidence = draw(st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 3.0, np.inf, np.nan]), min_size=n, max_size=n))
    return np.array(scores), np.array(evidence), draw(st.integers(0, n))


def order_of(scores: np.ndarray) -> list[int]:
    return np.argsort(-scores, kind="stable").tolist()


@given(stages())
def test_rerank_orders_the_top_by_evidence_and_leaves_the_rest(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    scores, evidence, k = case
    before, evidence_before = scores.copy(), evidence.copy()
    first, out = order_of(scores), rerank(scores, evidence, k)
    assert np.array_equal(scores, before) and np.array_equal(evidence, evidence_before, equal_nan=True)
    assert out.dtype == np.float64 and np.allclose(np.sort(out), np.sort(scores), rtol=1e-12, atol=1e-300)
    new = order_of(out)
    assert np.array_equal(out[first[k:]], scores[first[k:]]) and new[k:] == first[k:]
    known = [i for i in first[:k] if not np.isnan(evidence[i])]
    assert [i for i in new[:k] if i in known] == sorted(known, key=lambda i: -evidence[i])  # stable: the first stage decides ties
    assert all(new[p] == i for p, i in enumerate(first[:k]) if i not in known)
    if len(known) < 2:
        assert np.array_equal(out, scores)
    else:  # nothing hides the new order: also not a tie at the cut
        assert (np.diff(out[new[:k]]) < 0).all() and (k == len(out) or out[new[k - 1]] > out[new[k]])
    assert np.array_equal(rerank(out, evidence, k), out)


def test_rerank_by_hand() -> None:
    scores, evidence = np.array([0.1, 0.9, 0.5, 0.7, 0.3]), np.array([9.0, 1.0, 3.0, 2.0, 8.0])
    assert rerank(scores, evidence, 0).tolist() == rerank(scores, evidence, 1).tolist() == scores.tolist()
    assert rerank(scores, evidence, 3).tolist() == [0.1, 0.5, 0.9, 0.7, 0.3]
    assert rerank(scores, evidence, 5).tolist() == [0.9, 0.1, 0.5, 0.3, 0.7]
    evidence[3] = np.nan  # second, and stays so
    assert rerank(scores, evidence, 3).tolist() == [0.1, 0.5, 0.9, 0.7, 0.3]
    assert rerank(scores, np.full(5, np.nan), 5).tolist() == scores.tolist()


def test_evidence_speaks_where_all_scores_are_equal() -> None:
    evidence = np.array([2.0, 5.0, 3.0, 4.0])
    assert order_of(rerank(np.zeros(4), evidence, 4)) == [1, 3, 2, 0]
    out = rerank(np.zeros(4), evidence, 2)  # the earlier rows are read
    assert order_of(out) == [1, 0, 2, 3] and out[0] > out[2] == out[3] == 0


@pytest.mark.parametrize("scores, evidence, k, words", [
    ([1.0, 2.0], [1.0, 2.0], 3, "k must be an integer from 0 to 2, got 3"),
    ([1.0, 2.0], [1.0, 2.0], -1, "from 0 to 2, got -1"),
    ([1.0, 2.0], [1.0, 2.0], 1.0, "must be an integer"),
    ([1.0, 2.0], [1.0, 2.0], True, "must be an integer"),
    ([1.0, 2.0], [1.0], 1, r"must both be \(n,\), got \(2,\) and \(1,\)"),
    ([[1.0, 2.0]], [[1.0, 2.0]], 1, r"must both be \(n,\)"),
    ([1.0, np.nan], [1.0, 2.0], 1, "scores: row 1 is not finite"),
    ([np.inf, 1.0], [1.0, 2.0], 1, "scores: row 0 is not finite"),
])
def test_rerank_refuses_bad_input_in_one_line(scores: list, evidence: list, k: object, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        rerank(np.array(scores), np.array(evidence), k)
    assert "\n" not in str(error.value)


def test_two_stages_on_features_of_known_strength() -> None:
    """The user runs the three best of five PTMs, of different width; the clearer the classes, the better the PTM."""
    rng, labels = np.random.default_rng(0), np.repeat(["ant", "bee", "cat"], 30)
    centres = rng.normal(size=(3, 24))[np.unique(labels, return_inverse=True)[1]]
    scores, strength, width = np.array([0.2, 0.8, 0.9, 0.1, 0.7]), {1: 1.0, 2: 0.0, 4: 3.0}, {1: 24, 2: 12, 4: 6}
    features = {i: s * centres[:, :width[i]] + rng.normal(size=(90, width[i])) for i, s in strength.items()}
    evidence = evidence_of(features, labels, 5)
    assert np.isnan(evidence[[0, 3]]).all() and evidence[4] > evidence[1] > evidence[2]
    assert order_of(rerank(scores, evidence, 3)) == [4, 1, 2, 0, 3]


def test_evidence_names_the_ptm_that_it_refuses() -> None:
    features, labels = np.random.default_rng(0).normal(size=(6, 3)), [0, 0, 0, 1, 1, 1]
    assert np.isnan(evidence_of({}, labels, 3)).all()
    for bad, words in ({3: features}, r"PTM 3 does not exist \(allowed: 0 to 2\)"), ({-1: features}, "PTM -1 does not exist"), \
            ({0: features, 2: features[:5]}, r"^PTM 2: features must be \(N, D\)"):
        with pytest.raises(ValueError, match=words):
            evidence_of(bad, labels, 3)
