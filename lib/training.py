"""Ranking losses and the one training loop of the three attention rankers."""
from __future__ import annotations

import json
import os
import threading
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Mapping, NamedTuple, Sequence

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from lib.benchmark import Query
from lib.tokens import Vocabulary, encode

CHUNK = 1024  # candidates scored at once: their attention weights stay in the processor's second-level cache


def plackett_luce(scores: Tensor, ranks: Tensor) -> Tensor:
    """Listwise loss: at each place the right candidate must win among those not placed before it.

    This is ListMLE (Xia et al., ICML 2008), the form of Model Spider's hierarchical cross-entropy, extended to ties:
    candidates of one tied group compete with each other too, so the optimum gives them equal scores.

    Parameters
    ----------
    scores, ranks : Tensor (B, M)
        ``ranks`` from 1 (best), ties share a rank, 0 = not in the list (padding, not measured).

    Returns
    -------
    Tensor (B,)
        Mean over the places of each list; 0 for an empty list.
    """
    present = ranks > 0
    behind = (ranks.unsqueeze(1) >= ranks.unsqueeze(2)) & present.unsqueeze(1)  # (B, i, j): j not placed before i
    rivals = scores.unsqueeze(1).masked_fill(~behind, -torch.inf)
    place = torch.where(present, rivals.logsumexp(-1) - scores, 0.0)
    return place.sum(-1) / present.sum(-1).clamp(min=1)


def pairwise_logistic(scores: Tensor, ranks: Tensor) -> Tensor:
    """RankNet (Burges et al., ICML 2005): logistic loss over the pairs that the ranking orders; ties do not count.

    Shapes as in :func:`plackett_luce`.
    """
    present = ranks > 0
    ordered = (ranks.unsqueeze(2) < ranks.unsqueeze(1)) & present.unsqueeze(2) & present.unsqueeze(1)
    loss = nn.functional.softplus(scores.unsqueeze(1) - scores.unsqueeze(2))
    return (loss * ordered).sum((1, 2)) / ordered.sum((1, 2)).clamp(min=1)


LOSSES = {"plackett_luce": plackett_luce, "pairwise_logistic": pairwise_logistic}


_ONE_AT_A_TIME = threading.RLock()  # torch has one generator a process; a cluster's worker may train in several threads


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """One thread and a seeded generator: the same numbers whatever the machine's thread count."""
    with _ONE_AT_A_TIME:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                yield
        finally:
            torch.set_num_threads(threads)


class Example(NamedTuple):
    """A query with K alternative targets (K, M, O) and the priorities (K, metrics) that each belongs to."""

    query: Query
    targets: np.ndarray
    priorities: np.ndarray


class TokenRanker(ABC):
    """What Model Spider, Fusion and Shadow's hardware ranker share: tokens, training loop, saving.

    A ranker says what it learns from (:meth:`examples`), its ``network`` and, if it is no ranking loss, its :meth:`loss`.

    Parameters
    ----------
    dim, heads : int
        Width of a token and attention heads.
    epochs, learning_rate, batch_size
        AdamW with a cosine schedule; an epoch sees each query once, with one of its alternative targets.
    seed : int
        Makes training deterministic.
    progress : bool
        Show a progress bar.
    """

    network: type[nn.Module]
    padding = 0.0  # target of an absent candidate

    def __init__(self, *, dim: int = 64, heads: int = 4, epochs: int = 40, learning_rate: float = 2e-3,
                 batch_size: int = 16, loss: str = "plackett_luce", seed: int = 0, progress: bool = False,
                 **network: object) -> None:
        self.config = dict(dim=dim, heads=heads, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size,
                           loss=loss, seed=seed, **network)
        self.progress = progress
        self.options = network
        self.vocabulary: Vocabulary | None = None
        self.module: nn.Module | None = None

    @abstractmethod
    def examples(self, queries: Sequence[Query]) -> list[Example]:
        """What to learn from."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B, M, O) outputs against (B, M, O) ranks -> (B,)."""
        return LOSSES[self.config["loss"]](outputs[..., 0], targets[..., 0])

    def fit(self, queries: Sequence[Query]) -> "TokenRanker":
        """Train from scratch.

        Raises
        ------
        ValueError
            No query has anything to learn from.
        """
        c, examples = self.config, self.examples(queries)
        if not examples:
            raise ValueError(f"{type(self).__name__}: none of the {len(queries)} queries has anything to learn from")
        self.vocabulary = Vocabulary.of(e.query for e in examples)
        batch = encode([e.query for e in examples], self.vocabulary)
        width = batch.candidates.shape[1]
        alternatives = max(len(e.targets) for e in examples)
        targets = np.full((len(examples), alternatives, width, examples[0].targets.shape[-1]), self.padding, np.float32)
        priorities = np.zeros((len(examples), alternatives, examples[0].priorities.shape[-1]), np.float32)
        for i, e in enumerate(examples):  # fewer alternatives than others: repeat them
            repeat = np.arange(alternatives) % len(e.targets)
            targets[i, :, : len(e.query)], priorities[i] = e.targets[repeat], e.priorities[repeat]
        targets, priorities = torch.from_numpy(targets), torch.from_numpy(priorities)
        with reproducible(c["seed"]):
            self.module = self.network(self.vocabulary, c["dim"], c["heads"], **self.options)
            steps = max(1, -(-len(examples) // c["batch_size"])) * c["epochs"]
            optimiser = torch.optim.AdamW(self.module.parameters(), c["learning_rate"], weight_decay=1e-3)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, c["learning_rate"], steps, pct_start=0.1)
            self.module.train()
            for _ in tqdm(range(c["epochs"]), disable=not self.progress, desc=type(self).__name__):
                # Queries of like size share a batch: the listwise loss grows with the square of the longest.
                order = (batch.candidates.sum(1) * (1 + 0.3 * torch.rand(len(examples)))).argsort().split(c["batch_size"])
                for index in (order[i] for i in torch.randperm(len(order))):
                    pick, part = torch.randint(alternatives, (len(index),)), batch.take(index)
                    outputs = self.module(part, priorities[index, pick])
                    loss = self.loss(outputs, targets[index, pick][:, : part.candidates.shape[1]]).mean()
                    optimiser.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
                    optimiser.step()
                    schedule.step()
            self.module.eval()
        return self

    def outputs(self, query: Query, priorities: np.ndarray) -> np.ndarray:
        """Network outputs of one query, (n, O), in blocks of candidates so that memory stays bounded."""
        if self.module is None or self.vocabulary is None:
            raise ValueError(f"{type(self).__name__} is not trained: call fit() or load() first")
        batch, threads = encode([query], self.vocabulary), torch.get_num_threads()
        weights = torch.from_numpy(np.asarray(priorities, np.float32)).reshape(1, -1)
        self.module.eval()
        with torch.inference_mode(), reproducible(0):
            return self.module.score_blocks(batch, weights, CHUNK, threads)[0].numpy().astype(float)

    def save(self, path: Path | str) -> None:
        """Write weights, vocabulary and settings to one safetensors file (no pickle), atomically."""
        if self.module is None or self.vocabulary is None:
            raise ValueError(f"{type(self).__name__} is not trained: nothing to save")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        meta = {"class": type(self).__name__, "config": json.dumps(self.config), "vocabulary": json.dumps(self.vocabulary.to_dict())}
        part = path.with_name(f".{path.name}.{os.getpid()}")
        save_file({k: v.contiguous() for k, v in self.module.state_dict().items()}, part, meta)
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path | str) -> "TokenRanker":
        """Inverse of :meth:`save`.

        Raises
        ------
        ValueError
            The file holds another kind of ranker.
        """
        with safe_open(path, "pt") as file:
            meta: Mapping[str, str] = file.metadata() or {}
            if meta.get("class") != cls.__name__:
                raise ValueError(f"{path}: holds a {meta.get('class', 'file of another kind')}, not a {cls.__name__}")
            ranker = cls(**json.loads(meta["config"]))
            ranker.vocabulary = Vocabulary.from_dict(json.loads(meta["vocabulary"]))
            ranker.module = ranker.network(ranker.vocabulary, ranker.config["dim"], ranker.config["heads"], **ranker.options)
            ranker.module.load_state_dict({k: file.get_tensor(k) for k in file.keys()})
        ranker.module.eval()
        return ranker

