"""Fusion: hardware tokens join the task tokens, µ(T, H), and one attention block learns how they interact.

The user's priorities are one more token, so a single trained model serves every weighting.
"""
from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lib.benchmark import Query
from lib.metrics import METRICS
from lib.spider import TokenNetwork
from lib.tokens import PTM_NUMBERS, Batch, HardwareTokens, TaskTokens, Vocabulary, priorities_vector
from lib.training import Example, TokenRanker

#: Weightings that Fusion trains on; those of metrics that a query lacks are skipped.
TRAINING_PRIORITIES: tuple[dict[str, int], ...] = (
    {"accuracy": 1, "latency": 1},
    {"accuracy": 1},
    {"latency": 1},
    {"accuracy": 2, "latency": 1},
    {"accuracy": 1, "latency": 2},
    {"accuracy": 1, "latency": 1, "memory": 1},
    {"accuracy": 1, "memory": 1, "storage": 1},
    {"accuracy": 3, "latency": 2, "memory": 1},
    {"accuracy": 1, "energy": 1},
    {"memory": 1},
    {"storage": 1},
)


class FusionNetwork(TokenNetwork):
    """Context = µ(T, H) and a token of the priorities; the priorities also choose the direction that is scored.

    A token alone shifts all PTMs alike; the product of state and priorities lets two weightings order them differently.
    The same product with the PTM's numbers is the straight line of MACs and parameters that attention refines.
    """

    def __init__(self, vocabulary: Vocabulary, dim: int, heads: int, *, hardware: bool = True, **options: bool) -> None:
        super().__init__(vocabulary, dim, heads, **options)
        self.task, self.hardware, self.use_hardware = TaskTokens(dim), HardwareTokens(vocabulary, dim), hardware
        self.priorities = nn.Sequential(nn.Linear(len(METRICS), dim), nn.GELU(), nn.Linear(dim, dim))
        self.direction, self.line = nn.Linear(len(METRICS), dim), nn.Linear(len(METRICS), len(PTM_NUMBERS))

    def score(self, states: Tensor, batch: Batch, priorities: Tensor) -> Tensor:
        chosen = (states * self.direction(priorities).unsqueeze(1)).sum(-1, keepdim=True)
        line = (batch.numbers.nan_to_num() * self.line(priorities).unsqueeze(1)).sum(-1, keepdim=True)
        return self.head(states) + chosen + line

    def context(self, batch: Batch, priorities: Tensor) -> tuple[Tensor, Tensor]:
        parts = [self.task(batch)]
        if self.use_hardware:
            parts.append(self.hardware(batch))
        parts.append((self.priorities(priorities).unsqueeze(1), torch.ones(len(priorities), 1, dtype=torch.bool)))
        return torch.cat([p[0] for p in parts], 1), torch.cat([p[1] for p in parts], 1)


class Fusion(TokenRanker):
    """Learns the weighted Copeland ranking itself, under many weightings at once."""

    network = FusionNetwork

    def examples(self, queries: Sequence[Query]) -> list[Example]:
        out = []
        for q in queries:
            weightings = [w for w in TRAINING_PRIORITIES if set(w) <= set(q.metrics)]
            if weightings:
                ranks = np.stack([q.truth(w).ranks for w in weightings]).astype(np.float32)
                out.append(Example(q, ranks[..., None], np.stack([priorities_vector(w) for w in weightings])))
        return out

    def score(self, query: Query, priorities: Mapping[str, object]) -> np.ndarray:
        """(n,), higher is better."""
        return self.outputs(query, priorities_vector(priorities))[:, 0]
