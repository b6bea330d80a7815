"""All priorities at once: who is first where on the simplex of weights, and how far that answer holds.

A pair is decided by the sign of ``weights . opinions`` with opinions in {-1, 0, +1}. A Copeland ranking can therefore
change only where the weights cross a plane ``o . w = 0``, and these planes cut the simplex into finitely many faces:
5 for two metrics, 43 for three, 12 of them with an area. :func:`cells` finds them exactly; nothing is sampled.
"""
from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import Mapping, NamedTuple, Sequence

import numpy as np
from matplotlib.axes import Axes
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from lib.benchmark import INDIFFERENCE, Query
from lib.copeland import pairwise_margins
from lib.metrics import METRICS

Weights = Sequence[int | Fraction]


class Cells(NamedTuple):
    """Faces of the simplex of V weights; every Copeland ranking is constant on each.

    ``points`` (F, V) smallest whole weights inside a face, ``dims`` (F,) 0 = a point, V - 1 = with an area, ``area``
    (F,) share of the simplex, ``corners`` extreme points of each face, (k, V) weights that sum to 1.
    """

    points: np.ndarray
    dims: np.ndarray
    area: np.ndarray
    corners: tuple[np.ndarray, ...]


def patterns(n: int) -> np.ndarray:
    """(P, n) opinions of n voters on a pair: one of each two opposites, without the pair that nobody decides."""
    return np.array([row for row in itertools.product((-1, 0, 1), repeat=n) if row > (0,) * n])


@cache
def cells(n: int) -> Cells:
    """Every face of the simplex of ``n`` weights, for 1 to 3 metrics (ValueError otherwise).

    A corner is where n - 1 planes meet. A face of dimension d has d + 1 of its corners in general position, and their
    mean lies inside it: the means of all sets of at most n corners reach every face.
    """
    if not 1 <= n <= 3:
        raise ValueError(f"cells: {n} metrics (allowed: 1 to 3)")
    planes = patterns(n)
    corners = {(1,)} if n == 1 else set()
    for rows in itertools.combinations(planes, n - 1) if n > 1 else ():
        ray = [round((-1) ** i * np.linalg.det(np.delete(rows, i, axis=1))) for i in range(n)]  # orthogonal to all rows
        ray = [-x for x in ray] if min(ray) < 0 else ray
        if any(ray) and min(ray) >= 0:
            corners.add(tuple(x // math.gcd(*ray) for x in ray))
    tops, found = np.array(sorted(corners, reverse=True)), {}
    for size in range(1, n + 1):
        for point in tops[list(itertools.combinations(range(len(tops)), size))].sum(1):
            point = tuple((point // np.gcd.reduce(point)).tolist())
            face = tuple(np.sign(planes @ point))
            found[face] = min(found.get(face, point), point, key=lambda p: (sum(p), [-x for x in p]))
    points = np.array(sorted(found.values(), key=lambda p: (sum(p), [-x for x in p])))
    signs, of_tops = np.sign(points @ planes.T), np.sign(tops @ planes.T)
    dims = np.array([n - 1 - (np.linalg.matrix_rank(planes[s == 0]) if (s == 0).any() else 0) for s in signs])
    hulls = tuple((tops / tops.sum(1, keepdims=True))[((of_tops == 0) | (of_tops == s)).all(1)] for s in signs)
    area = np.array([_volume(hull) if d == n - 1 else 0.0 for hull, d in zip(hulls, dims)])
    return Cells(points, dims, area, hulls)


def _volume(corners: np.ndarray) -> float:
    """Share of the simplex inside the hull of some of its points (k, V)."""
    flat = corners[:, :-1]
    if flat.shape[1] <= 1:
        return float(np.ptp(flat)) if flat.size else 1.0
    return ConvexHull(flat).volume * math.factorial(flat.shape[1])


def distance(corners: np.ndarray, weights: Weights) -> float:
    """Share of the weight that must move between metrics to reach the hull of ``corners`` (k, V)."""
    k, n = corners.shape
    w = np.array([float(x) for x in weights]) / float(sum(weights))
    bound = np.block([[corners.T, -np.eye(n)], [-corners.T, -np.eye(n)]])
    answer = linprog(np.r_[np.zeros(k), np.full(n, 0.5)], bound, np.r_[w, -w], [np.r_[np.ones(k), np.zeros(n)]], [1])
    return max(0.0, round(answer.fun, 9))


@cache
def _distances(weights: tuple[Fraction, ...]) -> np.ndarray:
    return np.array([distance(hull, weights) for hull in cells(len(weights)).corners])


def opinions(query: Query, metrics: Sequence[str], scale: float = 1.0) -> np.ndarray:
    """(V, n, n) int8: +1 where the metric prefers i to j; ``scale`` multiplies the indifference thresholds."""
    return np.array([pairwise_margins(query.values[m.column].to_numpy(float)[None], directions=[m.direction],
                                      thresholds=[INDIFFERENCE[m.name][0] * scale], absolute=[INDIFFERENCE[m.name][1]])
                     for m in (METRICS[name] for name in metrics)], np.int8)


def scores(votes: np.ndarray, weights: Weights | np.ndarray) -> np.ndarray:
    """(F, n) Copeland scores of opinions (V, n, n) under each row of whole weights (F, V)."""
    return np.array([np.sign(np.tensordot(w, votes, 1)).sum(1) for w in np.atleast_2d(np.asarray(weights, np.int64))])


@dataclass(frozen=True, eq=False)
class PriorityMap:
    """Who is first where."""

    query: Query
    metrics: tuple[str, ...]
    votes: np.ndarray

    @cached_property
    def cells(self) -> Cells:
        """Faces of the simplex of these metrics."""
        return cells(len(self.metrics))

    @cached_property
    def first(self) -> np.ndarray:
        """(F, n) bool: the candidate is first, alone or tied, under the weights of a face."""
        table = scores(self.votes, self.cells.points)
        return table == table.max(1, keepdims=True)

    @property
    def share(self) -> np.ndarray:
        """(n,) share of the simplex on which a candidate is first; those who tie share it."""
        return self.cells.area @ (self.first / self.first.sum(1, keepdims=True))

    @property
    def ever_first(self) -> np.ndarray:
        """(n,) bool: first under some priorities that give every metric a weight."""
        return self.first[(self.cells.points > 0).all(1)].any(0)

    @property
    def dominated(self) -> np.ndarray:
        """(n,) bool: some other candidate is better in a metric and no worse in any, beyond indifference."""
        return ((self.votes <= 0).all(0) & (self.votes < 0).any(0)).any(1)

    def answer(self, weights: Weights) -> np.ndarray:
        """(n,) bool: the first candidates under these weights."""
        scale = math.lcm(*(Fraction(w).denominator for w in weights))
        table = scores(self.votes, [int(w * scale) for w in weights])[0]
        return table == table.max()

    def region(self, weights: Weights) -> float:
        """Share of the simplex on which a recommendation made for ``weights`` is still first."""
        return float(self.cells.area @ (self.first & self.answer(weights)).any(1))

    def radius(self, weights: Weights) -> float:
        """Stability: share of the weight that may move, any way, before no recommendation is first; 1 = never."""
        lost = ~(self.first & self.answer(weights)).any(1)
        return float(_distances(tuple(map(Fraction, weights)))[lost].min(initial=1.0))

    def drivers(self, weights: Weights) -> dict[str, float]:
        """Share of the weight that must move to each metric, from the others in proportion, for another answer.

        NaN: even all of the weight changes nothing.
        """
        answer, out = self.answer(weights), {}
        start = [Fraction(w) / sum(map(Fraction, weights)) for w in weights]
        for m, name in enumerate(self.metrics):
            goal = [Fraction(v == m) for v in range(len(start))]
            ends = [[sum(x * y for x, y in zip(o, w)) for w in (start, goal)] for o in patterns(len(start)).tolist()]
            cuts = sorted({a / (a - b) for a, b in ends if a != b and 0 <= a / (a - b) <= 1} | {Fraction(0), Fraction(1)})
            steps = [(t, moved) for s, e in itertools.pairwise(cuts) for t, moved in (((s + e) / 2, s), (e, e))]
            lost = (moved for t, moved in steps
                    if not (self.answer([(1 - t) * a + t * b for a, b in zip(start, goal)]) & answer).any())
            out[name] = float(next(lost, math.nan) * (1 - start[m]))
        return out


def priority_map(query: Query, metrics: Sequence[str] | None = None, scale: float = 1.0) -> PriorityMap:
    """Map of a query over up to three metrics (default: the first three that were measured).

    ValueError names a metric that nobody measured on this platform.
    """
    metrics = tuple(metrics or query.metrics[:3])
    for name in metrics:
        if name not in query.metrics:
            raise ValueError(f"{query.name}: '{name}' was not measured (measured: {', '.join(query.metrics)})")
    return PriorityMap(query, metrics, opinions(query, metrics, scale))


def labels(query: Query) -> list[str]:
    """Short names of the candidates: architecture, then only what tells it from its namesakes."""
    names, c = query.candidates["model_id"].astype(str), query.candidates
    parts = {"input_shape": c["input_shape"].astype(str).str.replace("x", "×"), "precision": c["precision"].astype(str),
             "pretrain_dataset": c["pretrain_dataset"].astype(str), "training": c["training"].astype(str)}
    for column, text in parts.items():
        if names.duplicated().any():
            apart = text.groupby(names).transform("nunique") > 1
            names = names.where(~apart, names + " " + text)
    return names.tolist()


TRIANGLE = np.array([[0.5, math.sqrt(0.75)], [0.0, 0.0], [1.0, 0.0]])  # first metric on top, second left, third right


def plot_simplex(ax: Axes, chart: PriorityMap, colours: Mapping[int, str], weights: Weights = (1, 1, 1)) -> None:
    """Triangle of three priorities: cells in the colour of their first candidate (index -> colour), else grey; a second
    one who ties is hatched. The dot marks ``weights``, in the colour of their answer."""
    if len(chart.metrics) == 2:  # a bar from the second metric alone (left) to the first alone (right)
        for hull, d, first in zip(chart.cells.corners, chart.cells.dims, chart.first):
            if d:
                ax.axvspan(*np.sort(hull[:, 0]), ymin=0.35, ymax=0.65, color=colours.get(int(first.argmax()), "#DDDDDD"))
        for x, name in zip((1, 0), chart.metrics):
            ax.annotate(name, (x, 0.3), xycoords=("data", "axes fraction"), ha="center", va="top", fontsize=9, color="#444444")
        ax.set(xlim=(-0.15, 1.15))
        ax.set_axis_off()
        return
    for hull, d, first in zip(chart.cells.corners, chart.cells.dims, chart.first):
        if d == 2:
            xy = hull @ TRIANGLE
            xy = xy[np.argsort(np.arctan2(*(xy - xy.mean(0)).T))]
            who = np.flatnonzero(first)
            ax.fill(*xy.T, facecolor=colours.get(who[0], "#DDDDDD"), edgecolor="white", linewidth=0.9, zorder=1)
            if len(who) > 1:
                ax.fill(*xy.T, facecolor="none", edgecolor=colours.get(who[1], "#777777"), hatch="////", linewidth=0, zorder=2)
    spot = np.array([float(w) for w in weights]) / float(sum(weights)) @ TRIANGLE
    ax.plot(*spot, marker="o", markersize=8, markeredgecolor="black", markeredgewidth=1.2, zorder=3,
            color=colours.get(int(np.flatnonzero(chart.answer(weights))[0]), "#DDDDDD"))
    for (x, y), name, up in zip(TRIANGLE, chart.metrics, (True, False, False)):
        ax.annotate(name, (x, y), xytext=(0, 4 if up else -4), textcoords="offset points", ha="center",
                    va="bottom" if up else "top", fontsize=9, color="#444444")
    ax.set(xlim=(-0.04, 1.04), ylim=(-0.04, 0.91), aspect="equal")
    ax.set_axis_off()
