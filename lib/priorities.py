"""All priorities at once: who is first where on the simplex of weights, and how far that answer holds.

A pair is decided by the sign of ``weights . opinions`` with opinions in {-1, 0, +1}. A Copeland ranking can
therefore change only where the weights cross a plane ``o . w = 0``. These planes cut the simplex into finitely
many faces: 5 for two metrics; 43 for three, 12 of them with an area. :func:`cells` finds them exactly.
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

from lib.benchmark import Query
from lib.copeland import integer_weights, pairwise_margins
from lib.metrics import METRICS

Weights = Sequence[int | Fraction]


class Cells(NamedTuple):
    """Faces of the simplex of V weights; every Copeland ranking is constant on each.

    ``points`` (F, V) smallest whole weights inside a face, ``dims`` (F,) 0 = a point, V - 1 = with an area,
    ``area`` (F,) share of the simplex, ``corners`` extreme points of each face: (k, V) weights of sum 1.
    """

    points: np.ndarray
    dims: np.ndarray
    area: np.ndarray
    corners: tuple[np.ndarray, ...]


@cache
def patterns(n: int) -> np.ndarray:
    """(P, n) opinions of n voters on a pair: one of each two opposites, without the pair that nobody decides."""
    return np.array([row for row in itertools.product((-1, 0, 1), repeat=n) if row > (0,) * n])


@cache
def cells(n: int) -> Cells:
    """Every face of the simplex of ``n`` weights, for 1 to 3 metrics (ValueError otherwise).

    A corner is where n - 1 planes meet. A face of dimension d contains d + 1 of its corners in general position,
    and their mean lies inside it: the means of all sets of at most n corners reach every face.
    """
    if not 1 <= n <= 3:
        raise ValueError(f"cells: {n} metrics (allowed: 1 to 3)")
    planes = patterns(n)
    corners = {(1,)} if n == 1 else set()
    for rows in itertools.combinations(planes, n - 1) if n > 1 else ():
        ray = [round((-1) ** i * np.linalg.det(np.delete(rows, i, axis=1))) for i in range(n)]  # orthogonal
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
    signs, of_tops, tops = np.sign(points @ planes.T), np.sign(tops @ planes.T), tops / tops.sum(1, keepdims=True)
    dims = np.array([n - 1 - (np.linalg.matrix_rank(planes[s == 0]) if (s == 0).any() else 0) for s in signs])
    hulls = tuple(tops[((of_tops == 0) | (of_tops == s)).all(1)] for s in signs)
    size = {1: lambda hull: 1.0, 2: lambda hull: np.ptp(hull[:, 0]), 3: lambda hull: 2 * ConvexHull(hull[:, :2]).volume}
    area = np.array([size[n](hull) if d == n - 1 else 0.0 for hull, d in zip(hulls, dims)])
    return Cells(points, dims, area, hulls)


def distance(corners: np.ndarray, weights: Weights) -> float:
    """Share of the weight that must move between metrics to reach the hull of ``corners`` (k, V)."""
    k, n = corners.shape
    w = np.array([float(x) for x in weights]) / float(sum(weights))
    bound = np.block([[corners.T, -np.eye(n)], [-corners.T, -np.eye(n)]])
    mixture = [np.r_[np.ones(k), np.zeros(n)]]
    found = linprog(np.r_[np.zeros(k), np.full(n, 0.5)], bound, np.r_[w, -w], mixture, [1])
    return max(0.0, round(found.fun, 9))


@cache
def _faces(n: int) -> dict[tuple[int, ...], int]:
    return {tuple(np.sign(patterns(n) @ p).tolist()): i for i, p in enumerate(cells(n).points)}


@cache
def _distances(weights: tuple[Fraction, ...]) -> np.ndarray:
    return np.array([distance(hull, weights) for hull in cells(len(weights)).corners])


def opinions(query: Query, metrics: Sequence[str], scale: float = 1.0) -> np.ndarray:
    """(V, n, n) int8: +1 where the metric prefers i to j; ``scale`` multiplies the indifference thresholds."""
    return np.array([
        pairwise_margins(query.values[m.column].to_numpy(float)[None], directions=[m.direction],
                         thresholds=[query.noise[m.name].threshold * scale], absolute=[query.noise[m.name].absolute])
        for m in (METRICS[name] for name in metrics)], np.int8)


def scores(votes: np.ndarray, weights: Weights | np.ndarray) -> np.ndarray:
    """(F, n) Copeland scores of opinions (V, n, n) under each row of whole weights (F, V)."""
    return np.array([np.sign(np.tensordot(w, votes, 1)).sum(1) for w in np.atleast_2d(weights).astype(np.int64)])


@dataclass(frozen=True, eq=False)
class PriorityMap:
    """Who is first where: opinions ``votes`` (V, n, n) of the metrics on a query's candidates."""
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
    def beaten(self) -> np.ndarray:
        """(n, n) bool: i is dominated by j, which is better in a metric and no worse in any, beyond indifference."""
        return (self.votes <= 0).all(0) & (self.votes < 0).any(0)

    def answer(self, weights: Weights) -> np.ndarray:
        """(n,) bool: the first candidates under these weights, looked up in their face."""
        whole = integer_weights(weights)
        sums = [sum(x * w for x, w in zip(o, whole)) for o in patterns(len(whole)).tolist()]
        return self.first[_faces(len(whole))[tuple((s > 0) - (s < 0) for s in sums)]]

    def region(self, weights: Weights) -> float:
        """Share of the simplex on which a recommendation made for ``weights`` is still first."""
        return float(self.cells.area @ (self.first & self.answer(weights)).any(1))

    def radius(self, weights: Weights) -> float:
        """Stability: share of the weight that may move before no recommendation is first; 1 = never."""
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
            cuts = sorted({a / (a - b) for a, b in ends if a * b <= 0 and a != b} | {Fraction(0), Fraction(1)})
            steps = [(t, moved) for s, e in itertools.pairwise(cuts) for t, moved in (((s + e) / 2, s), (e, e))]
            lost = (moved for t, moved in steps
                    if not (self.answer([(1 - t) * a + t * b for a, b in zip(start, goal)]) & answer).any())
            out[name] = float(next(lost, math.nan) * (1 - start[m]))
        return out


def priority_map(query: Query, metrics: Sequence[str] | None = None, scale: float = 1.0) -> PriorityMap:
    """Map of a query over those of ``metrics`` that were measured (default: the first three measured ones).

    ValueError if none of them was.
    """
    chosen = tuple(m for m in metrics if m in query.metrics) if metrics else query.metrics[:3]
    if not chosen:
        raise ValueError(f"{query.name}: none of {', '.join(metrics)} was measured ({', '.join(query.metrics)} were)")
    return PriorityMap(query, chosen, opinions(query, chosen, scale))


def labels(query: Query) -> list[str]:
    """Short names of the candidates: architecture, then only what tells it from its namesakes."""
    c = query.candidates.astype({"input_shape": str}).replace({"input_shape": "x"}, {"input_shape": "×"}, regex=True)
    names = c["model_id"].astype(str)
    for column in ("input_shape", "precision", "pretrain_dataset", "training"):
        apart = c[column].groupby(names).transform("nunique") > 1
        names = names.where(~apart, names + " " + c[column].astype(str))
    return names.tolist()


TRIANGLE = np.array([[0.5, math.sqrt(0.75)], [0.0, 0.0], [1.0, 0.0]])  # first metric on top, then left, right


def plot_simplex(ax: Axes, chart: PriorityMap, colours: Mapping[int, str], weights: Weights = (1, 1, 1)) -> None:
    """Triangle of three priorities (bar of two), each cell in the colour of its first candidate, else grey.

    ``colours``: candidate (index) -> colour; the second of two who tie is hatched. A dot marks ``weights``.
    """
    ends = TRIANGLE if len(chart.metrics) == 3 else np.array([[1.0, 0.4], [0.0, 0.4]])
    for hull, d, first in zip(chart.cells.corners, chart.cells.dims, chart.first):
        if d == len(ends) - 1:
            xy, who = hull @ ends, np.flatnonzero(first)
            xy = xy if d == 2 else np.vstack([xy - (0, 0.1), xy + (0, 0.1)])
            xy = xy[np.argsort(np.arctan2(*(xy - xy.mean(0)).T))]
            ax.fill(*xy.T, facecolor=colours.get(who[0], "#DDDDDD"), edgecolor="white", linewidth=0.9)
            if len(who) > 1:
                ax.fill(*xy.T, facecolor="none", edgecolor=colours.get(who[1], "#777777"), hatch="////", lw=0)
    spot, best = np.array([float(w / sum(weights)) for w in weights]) @ ends, chart.answer(weights).argmax()
    ax.plot(*spot, "o", color=colours.get(best, "#DDDDDD"), markersize=8, markeredgecolor="black")
    for (x, y), name in zip(ends, chart.metrics):
        ax.annotate(name, (x, y + 0.06 if y > 0.5 else 0.75 * y - 0.06), ha="center", va="center", fontsize=9)
    ax.set(xlim=(-0.04, 1.04), ylim=(-0.04, 0.91), aspect="equal")
    ax.set_axis_off()
