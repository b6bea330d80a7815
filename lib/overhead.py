"""What a recommendation itself costs: parameters, multiply-accumulates, memory and time, here and on a board.

Counts are exact and the same everywhere. Times are of the machine that runs them. A time on another board is predicted
from what that board reached on published networks, with the error of that rule on those networks.
"""
from __future__ import annotations

import time
import weakref
from typing import Callable, NamedTuple, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from lib.benchmark import Query
from lib.training import reproducible


class _Ledger(TorchDispatchMode):
    """Bytes of the tensors that are alive at once; those made before do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for storage in (t.untyped_storage() for t in tree_leaves(out) if isinstance(t, torch.Tensor)):
            key, size = storage._cdata, storage.nbytes()  # views share a storage
            if key not in self.known:
                self.known.add(key)
                self.alive += size
                self.peak = max(self.peak, self.alive)
                weakref.finalize(storage, self._free, key, size)
        return out

    def _free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.alive -= size


class Counts(NamedTuple):
    """Multiply-accumulates of matrix products, in millions, and the most bytes of tensors alive at once, in KiB."""

    macs_m: float
    peak_kib: float


def count(call: Callable[[], object]) -> Counts:
    """Count what a call does in torch, on one thread; the same on every machine."""
    with reproducible(0), FlopCounterMode(display=False) as products, _Ledger() as ledger:
        call()
    return Counts(products.get_total_flops() / 2e6, ledger.peak / 1024)


def networks(ranker: object) -> list[nn.Module]:
    """The networks of a ranker: one, or Shadow's two; none of a ranker without."""
    found = [getattr(part, "module", None) for part in (ranker, getattr(ranker, "task", None), getattr(ranker, "hardware", None))]
    return [m for m in found if m is not None]


def parameters(ranker: object) -> int:
    """Learned numbers of its networks."""
    return sum(p.numel() for m in networks(ranker) for p in m.parameters())


def seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """Wall time of the fastest of some calls, the one that other programs disturbed least, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


class Rate(NamedTuple):
    """What a platform reaches on published networks: median GMAC/s, and how far a latency predicted from the *other*
    networks is off: the median factor and the factor that nine of ten stay within."""

    gmacs: float
    factor: float
    factor90: float
    networks: int

    def predict(self, macs_m: float) -> float:
        """Predicted milliseconds of so many million multiply-accumulates."""
        return macs_m / self.gmacs


def effective_rate(queries: Sequence[Query]) -> Rate:
    """Effective throughput of one platform, from its latencies (ms) and MACs; ValueError with fewer than three networks."""
    rows = {tuple(v): (m, ms) for q in queries for v, m, ms in zip(
        q.candidates[["model_id", "input_shape", "precision"]].astype(str).to_numpy(), q.candidates["macs_m"], q.values["latency_ms"])}
    figures = np.array([f for f in rows.values() if f[0] > 0 and f[1] > 0])
    if len(figures) < 3:
        raise ValueError(f"{queries[0].platform}: {len(figures)} networks with latency and MACs (allowed: 3 or more)")
    rate = np.log10(figures[:, 0] / figures[:, 1])  # million MACs a millisecond = GMAC/s
    left_out = [abs(np.median(np.delete(rate, i)) - rate[i]) for i in range(len(rate))]
    return Rate(*(10 ** np.array([np.median(rate), np.median(left_out), np.quantile(left_out, 0.9)])).tolist(), len(rate))
