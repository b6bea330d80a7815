"""Model Spider (Zhang et al., NeurIPS 2023): a PTM token meets the task tokens in one attention block.

The original design runs the block once per PTM over the sequence [PTM token, task tokens] and keeps the first position.
Only that position is needed, and the task tokens' keys and values are the same for every PTM: here they are computed
once, and each PTM attends over itself and the shared context. The scores are equal; the loop over PTMs is gone.
"""
from __future__ import annotations

from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib.benchmark import Query, task_queries
from lib.tokens import Batch, PtmTokens, TaskTokens, Vocabulary
from lib.training import Example, TokenRanker
from lib.transferability import score as transferability


class SimilarityBlock(nn.Module):
    """Multi-head attention of every PTM over [itself, context], then a feed-forward part; both with residual and norm."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.1, feed_forward: bool = True) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.heads = heads
        self.query, self.key, self.value, self.project = (nn.Linear(dim, dim) for _ in range(4))
        self.norm, self.dropout = nn.LayerNorm(dim), nn.Dropout(dropout)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)) if feed_forward else None
        self.norm_out = nn.LayerNorm(dim) if feed_forward else nn.Identity()

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, n, dim / heads)

    def forward(self, ptm: Tensor, context: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend.

        Parameters
        ----------
        ptm : Tensor (B, M, dim)
        context : Tensor (B, S, dim)
        mask : Tensor (B, S), False = no token

        Returns
        -------
        Tensor (B, M, dim), Tensor (B, heads, M, 1 + S)
            New PTM states, and attention weights: first the PTM itself, then the context.
        """
        q, own_key, own_value = (self._split(f(ptm)) for f in (self.query, self.key, self.value))
        keys, values = self._split(self.key(context)), self._split(self.value(context))
        q = q * q.shape[-1] ** -0.5
        own, others = (q * own_key).sum(-1, keepdim=True), q @ keys.transpose(-1, -2)
        if not mask.all():
            others = others.masked_fill(~mask[:, None, None], -torch.inf)
        weights = torch.cat([own, others], -1).softmax(-1)
        mixed = weights[..., :1] * own_value + weights[..., 1:] @ values
        x = self.norm(ptm + self.dropout(self.project(mixed.transpose(1, 2).flatten(2))))
        if self.feed_forward is not None:
            x = self.norm_out(x + self.dropout(self.feed_forward(x)))
        return x, weights


class TokenNetwork(nn.Module):
    """PTM tokens, a context, the similarity block and a score head. Subclasses say what the context is."""

    outputs = 1

    def __init__(self, vocabulary: Vocabulary, dim: int, heads: int, *, learned: bool = True, traits: bool = True,
                 feed_forward: bool = True, hide: float = 0.3) -> None:
        super().__init__()
        self.ptm = PtmTokens(vocabulary, dim, hide, learned=learned, traits=traits)
        self.block = SimilarityBlock(dim, heads, feed_forward=feed_forward)
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, self.outputs))

    @abstractmethod
    def context(self, batch: Batch, priorities: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, S, dim) that every PTM attends over, and their mask (B, S)."""

    def score(self, states: Tensor, batch: Batch, priorities: Tensor) -> Tensor:
        """PTM states (B, M, dim) after attention -> (B, M, outputs)."""
        return self.head(states)

    def forward(self, batch: Batch, priorities: Tensor) -> Tensor:
        """(B, M, outputs)."""
        context, mask = self.context(batch, priorities)
        return self.score(self.block(self.ptm(batch), context, mask)[0], batch, priorities)

    def score_blocks(self, batch: Batch, priorities: Tensor, size: int, threads: int = 1) -> Tensor:
        """As :meth:`forward` for one query: the context computed once, ``size`` candidates at a time.

        Every block runs on one thread, so the scores do not depend on how many threads share the blocks.
        """
        context, mask = self.context(batch, priorities)
        context, mask = context[:, mask[0]], mask[:, mask[0]]

        @torch.inference_mode()  # a thread does not inherit it
        def block(start: int) -> Tensor:
            rows = slice(start, start + size)
            part = Batch(**{**vars(batch), "numbers": batch.numbers[:, rows], "words": batch.words[:, rows]})
            return self.score(self.block(self.ptm(part), context, mask)[0], part, priorities)

        starts = range(0, batch.candidates.shape[1], size)
        if threads == 1 or len(starts) < 2 * threads:
            return torch.cat([block(start) for start in starts], 1)
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return torch.cat(list(pool.map(block, starts)), 1)


class SpiderNetwork(TokenNetwork):
    """Context = task tokens µ(T)."""

    def __init__(self, vocabulary: Vocabulary, dim: int, heads: int, **options: bool) -> None:
        super().__init__(vocabulary, dim, heads, **options)
        self.task = TaskTokens(dim)

    def context(self, batch: Batch, priorities: Tensor) -> tuple[Tensor, Tensor]:
        return self.task(batch)


def ranks_of(values: np.ndarray, direction: int = +1) -> np.ndarray:
    """Ranks from 1 (best), ties share the smallest, 0 = not measured; (n,)."""
    return pd.Series(values * direction).rank(method="min", ascending=False).fillna(0).to_numpy()


class ModelSpider(TokenRanker):
    """Hardware-blind: learns the order of accuracies from PTM and task tokens. Priorities are ignored."""

    network = SpiderNetwork

    def examples(self, queries: Sequence[Query]) -> list[Example]:
        out = []
        for q in task_queries(queries):
            ranks = ranks_of(q.values["accuracy"].to_numpy())
            out.append(Example(q, ranks[None, :, None], np.zeros((1, 1))))
        return out

    def score(self, query: Query, priorities: Mapping[str, object] | None = None) -> np.ndarray:
        """(n,), higher is better."""
        return self.outputs(query, np.zeros(1))[:, 0]


def evidence_of(features: Mapping[int, np.ndarray], labels: np.ndarray, n: int) -> np.ndarray:
    """LogME (You et al., ICML 2021) of what some of n PTMs extract from the user's images: (n,), NaN for the others.

    The paper's second stage appends a PTM's own features, projected, to the task tokens and asks the learned head again.
    The projections need images of the training tasks, which may not be shipped; LogME of these features needs none.

    Parameters
    ----------
    features : row of the PTM among the n candidates -> (N, D) array, D of its own
    labels : (N,) class of each image, the same images for all PTMs

    Raises
    ------
    ValueError : a row outside 0..n-1, or what :func:`lib.transferability.score` refuses, with the PTM's row.
    """
    out = np.full(n, np.nan)
    for row, extracted in features.items():
        if not 0 <= row < n:
            raise ValueError(f"features: PTM {row} does not exist (allowed: 0 to {n - 1})")
        try:
            out[row] = transferability("log_me", extracted, labels)
        except ValueError as error:
            raise ValueError(f"PTM {row}: {error}") from None
    return out


def rerank(scores: np.ndarray, evidence: np.ndarray, k: int) -> np.ndarray:
    """Second stage, for k forward passes instead of n: the k highest scores go to the same PTMs in the evidence's order.

    After Model Spider's re-ranking of its top k; there the learned head scores them again, see :func:`evidence_of`.

    Parameters
    ----------
    scores : (n,) of the first stage, finite, higher is better
    evidence : (n,) higher is better, read for the top k only; NaN = none: that PTM keeps its place
    k : 0 to n

    Returns
    -------
    (n,) float64. All others keep score and place, behind the top k. With fewer than two PTMs to order: a copy of ``scores``.
    Equal scores, also at the cut: the earlier row first. Equal evidence: as in the first stage. Equal scores that would
    hide the new order are raised by the smallest step of a float.

    Raises
    ------
    ValueError : k outside 0..n or no integer, shapes that differ, a score that is not finite.
    """
    scores, evidence = np.array(scores, np.float64), np.asarray(evidence, np.float64)
    if scores.ndim != 1 or scores.shape != evidence.shape:
        raise ValueError(f"scores and evidence must both be (n,), got {scores.shape} and {evidence.shape}")
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 0 <= k <= len(scores):
        raise ValueError(f"k must be an integer from 0 to {len(scores)}, got {k!r}")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores: row {(~np.isfinite(scores)).argmax()} is not finite")
    first = np.argsort(-scores, kind="stable")
    order, places = first[:k].copy(), np.flatnonzero(~np.isnan(evidence[first[:k]]))
    if len(places) < 2:
        return scores
    order[places] = order[places][np.argsort(-evidence[order[places]], kind="stable")]
    slots, below = scores[first[:k]], scores[first[k]] if k < len(scores) else -np.inf
    for i in reversed(range(k)):  # strictly falling, and above those that were not read
        slots[i] = below = max(slots[i], np.nextafter(below, np.inf))
    scores[order] = slots
    return scores
