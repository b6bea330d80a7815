"""What is timed, beside which peer, and how the rows are shown.

A ratio above 1 means that ours is faster. Each time is the best of a few, after one call to warm up. Where there is a
peer, the two answers are compared first, because a fast wrong answer is no answer. Rows without a peer are times.
``cpu`` is the processor time of ours, beside the time on the clock: on an idle machine both agree, or ``cpu`` is larger.
"""
from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from typing import Callable, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lib import paths
from lib.baselines import BoostedTrees
from lib.benchmark import Query, build_queries, load_benchmark
from lib.copeland import copeland
from lib.fusion import Fusion
from lib.shadow import Shadow
from lib.spider import SimilarityBlock
from lib.training import plackett_luce

BALANCED = {"accuracy": 1, "latency": 1}


class Row(NamedTuple):
    """One comparison. ``ours`` and ``theirs`` in ``unit``; ``aim``: least ratio beside a peer, else most of ``ours``.

    ``cpu``: processor seconds of ours. Much less than ``ours`` times threads: other programs had the machine.
    """

    what: str
    ours: float
    peer: str = ""
    theirs: float = float("nan")
    aim: float | None = None
    unit: str = "s"
    cpu: float = float("nan")

    @property
    def ratio(self) -> float:
        """How many times faster than the peer."""
        return self.theirs / self.ours

    @property
    def met(self) -> bool | None:
        """Whether the aim is reached; None without one."""
        return None if self.aim is None else self.ratio >= self.aim if self.peer else self.ours <= self.aim


def clocks() -> np.ndarray:
    """Wall time and processor time of this process and of those it waited for, in seconds."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return np.array([time.perf_counter(), own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime])


def timed(call: Callable[[], object], repeats: int = 3) -> dict[str, float]:
    """``ours`` and ``cpu`` of a row: the fastest of some calls, after one to warm up."""
    call()
    spent = []
    for _ in range(repeats):
        start = clocks()
        call()
        spent.append(clocks() - start)
    return dict(zip(("ours", "cpu"), np.min(spent, axis=0).tolist()))


def best(call: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of some calls."""
    return timed(call, repeats)["ours"]


# ------------------------------------------------------------------------------------------------ attention

class LoopedBlock(nn.Module):
    """The original design: one pass of self-attention over [PTM, context] for each PTM, first position kept."""

    def __init__(self, block: SimilarityBlock) -> None:
        super().__init__()
        dim = block.query.in_features
        self.attention = nn.MultiheadAttention(dim, block.heads, batch_first=True)
        stacked = [torch.cat([getattr(f, kind) for f in (block.query, block.key, block.value)]) for kind in ("weight", "bias")]
        self.attention.in_proj_weight.data, self.attention.in_proj_bias.data = (s.detach().clone() for s in stacked)
        self.attention.out_proj.load_state_dict(block.project.state_dict())
        self.norm, self.feed_forward, self.norm_out = block.norm, block.feed_forward, block.norm_out

    def forward(self, ptm: Tensor, context: Tensor, mask: Tensor) -> tuple[Tensor, None]:
        """As :class:`SimilarityBlock`, without the weights."""
        hidden, out = torch.cat([torch.zeros(len(mask), 1, dtype=torch.bool), ~mask], 1), []
        for i in range(ptm.shape[1]):
            sequence = torch.cat([ptm[:, i:i + 1], context], 1)
            mixed = self.attention(sequence, sequence, sequence, key_padding_mask=hidden, need_weights=False)[0]
            x = self.norm(sequence + mixed)
            out.append(self.norm_out(x + self.feed_forward(x))[:, :1])
        return torch.cat(out, 1), None


def training_step(queries: int = 16, candidates: int = 64, tokens: int = 48, dim: int = 64, heads: int = 4) -> Row:
    """Forward, listwise loss, backward and optimiser of both blocks on equal tensors, one thread."""
    torch.manual_seed(0)
    ours = SimilarityBlock(dim, heads, dropout=0.0)
    theirs, head = LoopedBlock(ours), nn.Linear(dim, 1)
    ptm, context, mask = torch.randn(queries, candidates, dim), torch.randn(queries, tokens, dim), torch.rand(queries, tokens) > 0.2
    ranks = torch.stack([torch.randperm(candidates) + 1 for _ in range(queries)])
    with torch.no_grad():
        if not torch.allclose(ours(ptm, context, mask)[0], theirs(ptm, context, mask)[0], atol=1e-4):
            raise AssertionError("the two disagree")

    def step(block: nn.Module) -> Callable[[], None]:
        optimiser = torch.optim.AdamW([*block.parameters(), *head.parameters()], 1e-5)

        def call() -> None:
            optimiser.zero_grad()
            plackett_luce(head(block(ptm, context, mask)[0])[..., 0], ranks).mean().backward()
            optimiser.step()

        return call

    sizes = f"{queries} queries x {candidates} candidates x {tokens} tokens"
    return Row(f"training step, {sizes}", **timed(step(ours)), peer="a pass per PTM (original)", theirs=best(step(theirs), 2), aim=20)


# ------------------------------------------------------------------------------------------------ Copeland

def against_pref_voting(voters: int, candidates: int, aim: float | None = None) -> Row:
    """Copeland scores of random rankings with ties, from the raw figures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package's own imports
        from pref_voting.profiles_with_ties import ProfileWithTies
    places = np.random.default_rng(0).integers(1, candidates // 2, (voters, candidates))

    def ours() -> list[int]:
        return copeland(places.astype(float), directions=[-1] * voters).scores.tolist()

    def theirs() -> list[int]:
        ballots = [dict(enumerate(row)) for row in places.tolist()]
        scores = ProfileWithTies(ballots, candidates=list(range(candidates))).copeland_scores()
        return [scores[c] for c in range(candidates)]

    if ours() != theirs():
        raise AssertionError("the two disagree")
    return Row(f"Copeland, {voters} rankings of {candidates}", **timed(ours, 5), peer="pref_voting", theirs=best(theirs, 1), aim=aim)


def many(voters: int, candidates: int, aim: float) -> Row:
    """Copeland scores of more candidates than a table of pairs could hold."""
    values = np.random.default_rng(0).random((voters, candidates))
    return Row(f"Copeland, {voters} rankings of {candidates:,}", **timed(lambda: copeland(values), 2), aim=aim)


# ------------------------------------------------------------------------------------------------ rankers

def large_query(query: Query, n: int) -> Query:
    """``n`` candidates with names and counts of their own, as an architecture search would give."""
    rng = np.random.default_rng(0)
    big = query.subset(rng.integers(len(query), size=n))
    for column in ("params_m", "macs_m"):
        big.candidates[column] = 10 ** rng.uniform(0, 3, n)
    big.candidates["model_id"] = [f"network_{i}" for i in range(n)]
    return big


def score_many(n: int = 1_000_000, task: str = "image_classification/flowers") -> list[Row]:
    """Scores of ``n`` candidates for one query on every core; the peak is of the whole process, in GiB."""
    queries = build_queries(load_benchmark(), "mcu")
    one = max((q for q in queries if q.task == task), key=len)
    made = {"Fusion": Fusion(epochs=1).fit(queries), "Shadow": Shadow(epochs=1).fit(queries)}
    threads, big, rows = os.cpu_count() or 1, large_query(one, n), []
    torch.set_num_threads(threads)
    for name, ranker in made.items():
        rows.append(Row(f"{name} scores {n:,} candidates, {threads} threads", **timed(lambda: ranker.score(big, BALANCED), 2), aim=2.0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return rows + [Row(f"peak memory of scoring {n:,} candidates", peak, aim=2.0, unit="GiB")]


def rankers(suite: str, epochs: int | None = None) -> list[Row]:
    """Train on a suite, then rank one query; the peer is gradient boosting (scikit-learn) on the same inputs."""
    queries = build_queries(load_benchmark(), suite)
    made = {}

    def fit(name: str, make: Callable[[], object]) -> dict[str, float]:
        start = clocks()
        made[name] = make().fit(queries)
        return dict(zip(("ours", "cpu"), (clocks() - start).tolist()))

    options = {} if epochs is None else {"epochs": epochs}
    trees = fit("trees", BoostedTrees)
    times = {"Fusion": fit("Fusion", lambda: Fusion(**options)), "Shadow": fit("Shadow", lambda: Shadow(**options))}
    largest = max(queries, key=len)
    one = {name: timed(lambda: ranker.score(largest, BALANCED)) for name, ranker in made.items()}
    rows = [Row(f"train {n} on {len(queries)} queries ({suite})", **t, peer="boosted trees", theirs=trees["ours"]) for n, t in times.items()]
    return rows + [Row(f"{n} ranks {len(largest)} candidates", **one[n], peer="boosted trees", theirs=one["trees"]["ours"]) for n in times]


# ------------------------------------------------------------------------------------------------ processes

def imports(ours: str, theirs: str) -> Row:
    """Start of a process that imports one module."""
    def start(module: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-W", "ignore", "-c", f"import {module}"], check=True)

    return Row(f"import {ours}", **timed(start(ours)), peer=theirs, theirs=best(start(theirs)))


def recommending(task: str = "image_classification/flowers", device: str = "stm32h747i_disco") -> Row:
    """The whole command for a board of the registry, from start to table; fails where the command does."""
    command = [sys.executable, "-m", "lib", "recommend", "--task", task, "--device", device]

    def call() -> None:
        if "rank" not in subprocess.run(command, check=True, capture_output=True, text=True, cwd=paths.ROOT).stdout:
            raise AssertionError("'recommend' prints no table")

    return Row("python -m lib recommend", **timed(call), aim=1.5)


# ------------------------------------------------------------------------------------------------ table

def table(rows: list[Row]) -> str:
    """Rows as text."""
    def amount(value: float, unit: str) -> str:
        return "" if np.isnan(value) else f"{value:.2f} {unit}" if value >= 1 or unit != "s" else f"{value * 1e3:.1f} ms"

    lines = [f"{'what':<62}{'ours':>11}{'cpu':>11}  {'peer':<34}{'theirs':>11}{'ratio':>9}  {'aim':<12}{'met':<4}"]
    for r in rows:
        ratio = f"{r.ratio:.1f}x" if r.peer else ""
        aim = "" if r.aim is None else f">= {r.aim:g}x" if r.peer else f"<= {r.aim:g} {r.unit}"
        met = {None: "", True: "yes", False: "no"}[r.met]
        lines.append(f"{r.what:<62}{amount(r.ours, r.unit):>11}{amount(r.cpu, 's'):>11}  {r.peer:<34}{amount(r.theirs, r.unit):>11}{ratio:>9}  {aim:<12}{met:<4}")
    return "\n".join(lines)


def save(rows: list[Row]) -> None:
    """Write data/results/bench.csv, with the machine in each row."""
    import pandas as pd

    machine = {"cpu_count": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
    frame = pd.DataFrame([{**r._asdict(), "ratio": r.ratio, "met": r.met, **machine} for r in rows])
    paths.RESULTS.mkdir(parents=True, exist_ok=True)
    frame.to_csv(paths.RESULTS / "bench.csv", index=False, float_format="%.5g")
