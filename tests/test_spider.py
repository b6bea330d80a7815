"""The loop-free block equals attention run once per PTM; the context matters where it should."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.benchmark import task_queries
from lib.spider import ModelSpider, SimilarityBlock, ranks_of
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
