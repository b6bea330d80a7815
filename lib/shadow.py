"""Shadow: one ranker for task relevance, one for hardware fit, combined by Copeland's method.

The hardware ranker predicts each hardware metric of a candidate on the platform (log scale); every metric with a weight
casts one vote, accuracy's vote being the task ranker's. So the combination is the same rule as the ground truth's, but
each vote counts as far as it can be trusted (:mod:`lib.expected`): ``certain=True`` takes both rankings at their word.
"""
from __future__ import annotations

from fractions import Fraction
from typing import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lib.adapt import FewShot
from lib.benchmark import Query, platform_queries
from lib.expected import MOST, SPREAD, combine, log_ties
from lib.metrics import HARDWARE, METRICS
from lib.neighbours import Neighbours
from lib.spider import ModelSpider, TokenNetwork
from lib.tokens import Batch, HardwareTokens, Vocabulary
from lib.training import Example, TokenRanker, plackett_luce



class HardwareNetwork(TokenNetwork):
    """Context = hardware tokens; one output per hardware metric, log10 of its value, around a log-linear MACs line."""

    outputs = len(HARDWARE)

    def __init__(self, vocabulary: Vocabulary, dim: int, heads: int, **options: bool) -> None:
        super().__init__(vocabulary, dim, heads, **options)
        self.hardware = HardwareTokens(vocabulary, dim)
        self.line = nn.Linear(2, self.outputs)

    def context(self, batch: Batch, priorities: Tensor) -> tuple[Tensor, Tensor]:
        return self.hardware(batch)

    def score(self, states: Tensor, batch: Batch, priorities: Tensor) -> Tensor:
        return self.head(states) + self.line(batch.numbers[..., :2].nan_to_num())


class HardwareRanker(TokenRanker):
    """Predicts log10 of latency (ms), memory, storage (KiB) and energy (µJ) from PTM and hardware tokens."""

    network = HardwareNetwork
    padding = np.nan

    def examples(self, queries: Sequence[Query]) -> list[Example]:
        out = []
        for q in platform_queries(queries):
            values = np.log10(q.values[list(HARDWARE.values())].to_numpy(float))
            values[:, [m not in q.noise for m in HARDWARE]] = np.nan  # what does not repeat teaches nothing
            if np.isfinite(values).any():
                out.append(Example(q, values[None].astype(np.float32), np.zeros((1, 1))))
        return out

    def fit(self, queries: Sequence[Query]) -> "HardwareRanker":
        self.seen = sorted({m for q in queries for m in q.metrics} & set(HARDWARE))
        self.config["seen"] = self.seen
        return super().fit(queries)  # type: ignore[return-value]

    def __init__(self, *, seen: Sequence[str] = (), epochs: int = 60, batch_size: int = 8, **options: object) -> None:
        super().__init__(epochs=epochs, batch_size=batch_size, **options)
        self.seen = list(seen)
        self.config["seen"] = self.seen

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Absolute error, error around the platform's mean (what ranks), and the listwise loss, per metric."""
        known = targets.isfinite()
        error = torch.where(known, outputs - targets.nan_to_num(), 0.0)
        count = known.sum(1, keepdim=True).clamp(min=1)
        centred = torch.where(known, error - error.sum(1, keepdim=True) / count, 0.0)
        huber = nn.HuberLoss(reduction="none", delta=0.1)
        size = 0.3 * huber(error, torch.zeros_like(error)) + huber(centred, torch.zeros_like(error))
        total = 10 * (size.sum(1) / count.squeeze(1)).sum(-1)
        for i in range(outputs.shape[-1]):
            if known[..., i].any():
                order = torch.where(known[..., i], targets[..., i], torch.inf)
                ranks = (order.unsqueeze(1) < order.unsqueeze(2)).sum(-1) + 1
                total = total + 0.1 * plackett_luce(-10 * outputs[..., i], ranks * known[..., i])
        return total

    def predict(self, query: Query) -> dict[str, np.ndarray]:
        """Predicted hardware metrics in their units, (n,) each; only metrics that training saw."""
        values = self.outputs(query, np.zeros(1))
        return {m: 10 ** values[:, list(HARDWARE).index(m)] for m in self.seen}


class Shadow:
    """Task ranker and hardware ranker side by side, combined by weighted Copeland under the user's priorities.

    Hardware figures are predicted by the trained network and, where there are such, by boards that resemble the platform
    (:mod:`lib.neighbours`). ``certain`` takes both rankings at their word; ``similar=False`` uses the network alone.
    """

    adapts = True  # score() can use a few measurements

    def __init__(self, *, seed: int = 0, progress: bool = False, certain: bool = False, similar: bool = True, **options: object) -> None:
        self.certain, self.similar = certain, similar
        self.task = ModelSpider(seed=seed, progress=progress, **options)
        self.hardware = HardwareRanker(seed=seed, progress=progress, **options)
        self.near: Neighbours | None = None
        self.few_shot: FewShot | None = None

    def fit(self, queries: Sequence[Query]) -> "Shadow":
        """Train both rankers; without accuracies in the queries only the hardware ranker."""
        if any("accuracy" in q.metrics for q in queries):
            self.task.fit(queries)
        self.hardware.fit(queries)
        on_boards = [q for q in queries if "latency" in q.metrics]
        if on_boards:
            self.few_shot, self.near = FewShot().fit(on_boards), Neighbours.of(on_boards) if self.similar else None
        return self

    def figures(self, query: Query) -> dict[str, np.ndarray]:
        """Predicted hardware metrics in their units, (n,) each; of very many candidates the network's alone.

        The geometric mean of the network's and similar boards': each errs where the other does not.
        """
        predicted = self.hardware.predict(query)
        if self.near is not None and len(query) <= MOST:
            for m in predicted:
                like = self.near.predict(query.candidates, query.specs, METRICS[m].column)
                predicted[m] = np.sqrt(predicted[m] * like.blend(predicted[m], query.candidates))
        return predicted

    def votes(self, query: Query, measured: np.ndarray | None = None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray | float]]:
        """Each metric's predictions, larger = better (log10, accuracy: task scores), and their standard deviations;
        latencies adapted to ``measured`` (n,) ms, NaN = not measured."""
        predicted, spreads = self.figures(query), dict(SPREAD)
        if measured is not None and np.isfinite(measured).any() and self.few_shot is not None and "latency" in predicted:
            predicted["latency"], spreads["latency"] = self.few_shot.adapt(query, predicted["latency"], measured)
        votes = {m: -np.log10(v) for m, v in predicted.items() if m in query.noise}
        if self.task.module is not None:
            votes["accuracy"] = self.task.score(query)
        return votes, spreads

    def score(self, query: Query, priorities: Mapping[str, int | Fraction], measured: np.ndarray | None = None) -> np.ndarray:
        """(n,) expected Copeland scores, higher is better."""
        votes, spreads = self.votes(query, measured)
        return combine(votes, priorities, None if self.certain else spreads, log_ties(query))
