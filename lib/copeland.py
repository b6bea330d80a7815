"""Weighted Copeland aggregation (A. H. Copeland, 1951): several rankings of the same candidates -> one.

Each voter (a metric) compares every pair of candidates. A pair is won by the side whose voters weigh more,
and a candidate's score is its won pairs minus its lost pairs. A tie counted as half a win
gives the same ranking, as score = 2 * points - (n - 1); counted as a win ("Llull") it does not.

Policies, none of them silent:

* Weights are integers or Fractions and all sums are exact. Floats are refused unless integral: 0.1 + 0.2
  against 0.3 must be a tie.
* ``thresholds``: a voter is indifferent between candidates whose values differ by no more than its threshold.
  This is *not transitive* (a ~ b and b ~ c, yet a > c may hold): opinions need not form a ranking, and even a
  single voter may give tied neighbours different Copeland scores.
* ``missing="ignore"``: a voter that has no value (NaN) for a candidate has no opinion on its pairs, which is
  not transitive either. ``missing="last"``: measured candidates beat unmeasured ones, which tie.
* Equal scores are returned as one group and share a rank.

A voter is stored as two integers per candidate, ``place`` and ``reach``: *i beats j* where ``place[j] <
reach[i]``, whatever its threshold and missing values. One or two voters need sorts and counts only (no table
of pairs), more voters a pass over the pairs in small tiles.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from numbers import Rational
from typing import Iterator, Literal, NamedTuple, Sequence

import numpy as np

Weight = int | Fraction
Missing = Literal["ignore", "last"]

_TILE = 512  # pairs are compared in squares of this side, which stay in the cache
_MAX_TABLE = 16384  # candidates of a full margin matrix (2 GiB)
_MAX_KEMENY = 12


@dataclass(frozen=True, eq=False)
class Copeland:
    """Result of :func:`copeland`; ``scores`` (n,) int64, pairs won minus pairs lost: -(n - 1) to n - 1."""

    scores: np.ndarray

    @cached_property
    def ranks(self) -> np.ndarray:
        """(n,) int64 competition ranks, 1 + the number of strictly higher scores: 1, 2, 2, 4."""
        return 1 + len(self.scores) - np.searchsorted(np.sort(self.scores), self.scores, side="right")

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Candidates with equal scores together, best group first; indices ascend within a group."""
        order = np.argsort(-self.scores, kind="stable")
        cuts = np.flatnonzero(np.diff(self.scores[order], prepend=np.nan, append=np.nan)).tolist()
        members = order.tolist()
        return tuple(tuple(members[a:b]) for a, b in pairwise(cuts))


class Kemeny(NamedTuple):
    """Result of :func:`kemeny`: one best order, its agreement, and how many orders are as good."""

    order: tuple[int, ...]
    agreement: int
    optima: int


@dataclass(frozen=True, eq=False)
class _Voter:
    """Opinions of one voter: i beats j if and only if ``place[j] < reach[i]``. Both (n,) int32 in 0..n."""

    place: np.ndarray
    reach: np.ndarray

    @cached_property
    def reversed(self) -> _Voter:
        n = np.int32(len(self.place))
        return _Voter(n - self.reach, n - self.place)

    @cached_property
    def wins(self) -> np.ndarray:
        """(n,) int64: how many candidates each one beats."""
        return np.cumsum(np.bincount(self.place + 1))[self.reach]

    @property
    def net(self) -> np.ndarray:
        """(n,) int64: how many candidates each one beats minus how many beat it."""
        return self.wins - self.reversed.wins


def copeland(values: np.ndarray, weights: Sequence[Weight] | None = None, *,
             directions: Sequence[int] | None = None, thresholds: Sequence[float] | None = None,
             absolute: Sequence[bool] | None = None, missing: Missing = "ignore") -> Copeland:
    """Weighted Copeland ranking.

    Parameters
    ----------
    values : (V, n) array
        One row per voter, NaN where not measured; any unit, compared within a row only.
    weights : (V,) int or Fraction, default all 1
        Weight of each voter, 0 or more; a voter of weight 0 has no say.
    directions : (V,) of +1 and -1, default all +1
        +1 where a larger value is better, -1 where a smaller one is.
    thresholds : (V,) float, default all 0
        Indifference: a and b tie when ``|a - b| <= t * max(|a|, |b|)``, 0 <= t < 1.
    absolute : (V,) bool, default all False
        True where the threshold is a difference in the row's unit instead: ``|a - b| <= t``.
    missing : {'ignore', 'last'}
        See the module's docstring.

    Raises
    ------
    ValueError
        An argument of a wrong shape or value, weights that are not exact or all 0.
    """
    voters, w = _electorate(values, weights, directions, thresholds, absolute, missing)
    if len(voters) == 1:
        return Copeland(voters[0].net)
    if len(voters) == 2:
        return Copeland(_two_voters(*voters, w[0] - w[1]))
    scores = np.zeros(len(voters[0].place), np.int64)
    for rows, columns, margins in _tiles(voters, w):
        signs = np.sign(margins)
        scores[rows] += signs.sum(axis=1)
        if rows != columns:  # the mirrored tile below the diagonal has the opposite signs
            scores[columns] -= signs.sum(axis=0)
    return Copeland(scores)


def pairwise_margins(values: np.ndarray, weights: Sequence[Weight] | None = None, **policies) -> np.ndarray:
    """(n, n) int64 matrix of the weight that prefers i to j minus the weight that prefers j to i.

    Arguments and errors as in :func:`copeland`; also refuses more candidates than a matrix of 2 GiB holds.
    Weights are first scaled to the smallest integers of the same ratio.
    """
    voters, w = _electorate(values, weights, **policies)
    n = len(voters[0].place)
    if n > _MAX_TABLE:
        raise ValueError(f"margins: {n} candidates are too many for a table (allowed: {_MAX_TABLE})")
    margins = np.zeros((n, n), np.int64)
    for rows, columns, tile in _tiles(voters, w):
        margins[rows, columns] = tile
        margins[columns, rows] = -tile.T
    return margins


def condorcet_winner(margins: np.ndarray) -> int | None:
    """The candidate that beats every other one, or None."""
    beaten = (_square(margins) > 0).sum(axis=1)
    winner = int(beaten.argmax())
    return winner if beaten[winner] == len(beaten) - 1 else None


def condorcet_cycles(margins: np.ndarray) -> int:
    """Number of cycles a > b > c > a in the strict majority relation."""
    wins = (_square(margins) > 0).astype(float)
    return round(float(np.einsum("ij,ji->", wins @ wins, wins)) / 3)


def borda(values: np.ndarray, weights: Sequence[Weight] | None = None, **policies) -> np.ndarray:
    """(n,) int64 symmetric Borda scores: the row sums of :func:`pairwise_margins`, without the table."""
    voters, w = _electorate(values, weights, **policies)
    return np.sum([weight * voter.net for weight, voter in zip(w, voters)], axis=0)


def kemeny(margins: np.ndarray) -> Kemeny:
    """Exact Kemeny order: maximises the sum of ``margins[i, j]`` over all pairs with i placed above j.

    Dynamic programming over subsets, O(2^n n^2) (Betzler et al., 2009). Of several optima the
    lexicographically first is returned, and their number with it. ValueError for more than 12 candidates.
    """
    m = _square(margins).tolist()
    n = len(m)
    if n > _MAX_KEMENY:
        raise ValueError(f"kemeny: {n} candidates, the exact order is found for at most {_MAX_KEMENY}")
    best = [Kemeny((), 0, 1)]  # of every subset of the candidates, as a bit mask
    for subset in range(1, 1 << n):
        members = [i for i in range(n) if subset >> i & 1]
        found = []
        for top in members:
            order, agreement, optima = best[subset ^ (1 << top)]
            found.append(Kemeny((top, *order), agreement + sum(m[top][j] for j in members), optima))
        first = max(found, key=lambda k: k.agreement)
        best.append(first._replace(optima=sum(k.optima for k in found if k.agreement == first.agreement)))
    return best[-1]


def integer_weights(weights: Sequence[Weight]) -> list[int]:
    """Scale exact weights to the smallest integers of the same ratio.

    ValueError for a weight that is negative or neither integer nor Fraction, or if none is above 0.
    """
    exact = []
    for i, weight in enumerate(weights):
        if isinstance(weight, (float, np.floating)) and weight.is_integer():
            weight = int(weight)
        if isinstance(weight, bool) or not isinstance(weight, Rational):
            raise ValueError(f"weights: weight {i} is {weight!r} (allowed: exact numbers, int or Fraction)")
        if weight < 0:
            raise ValueError(f"weights: weight {i} is {weight} (allowed: 0 or more)")
        exact.append(Fraction(int(weight.numerator), int(weight.denominator)))
    if not any(exact):
        raise ValueError("weights: at least one weight must be above 0")
    unit = Fraction(math.gcd(*(w.numerator for w in exact)), math.lcm(*(w.denominator for w in exact)))
    return [int(w / unit) for w in exact]


def _electorate(values, weights, directions=None, thresholds=None, absolute=None,
                missing="ignore") -> tuple[list[_Voter], list[int]]:
    """Check every argument; return the voters of positive weight and their integer weights."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"values: shape {values.shape} (allowed: voters x candidates, at least one of each)")
    if np.isinf(values).any():
        v, i = np.argwhere(np.isinf(values))[0]
        raise ValueError(f"values: voter {v}, candidate {i} is infinite (allowed: finite or NaN)")
    if missing not in ("ignore", "last"):
        raise ValueError(f"missing: '{missing}' (allowed: 'ignore', 'last')")
    settings = []
    for name, given, default in (("weights", weights, 1), ("directions", directions, 1),
                                 ("thresholds", thresholds, 0.0), ("absolute", absolute, False)):
        settings.append([default] * len(values) if given is None else list(given))
        if len(settings[-1]) != len(values):
            raise ValueError(f"{name}: {len(settings[-1])} given for {len(values)} voters")
    settings[0] = whole = integer_weights(settings[0])
    if sum(whole) * values.shape[1] >= 2**62:
        raise ValueError(f"weights: {whole} as whole numbers are too large to be exact")
    voters = []
    for v, (weight, direction, threshold, fixed) in enumerate(zip(*settings)):
        if direction not in (1, -1):
            raise ValueError(f"directions: voter {v} is {direction!r} (allowed: +1, -1)")
        if not 0 <= threshold < (math.inf if fixed else 1):
            kind = "absolute, 0 or more" if fixed else "relative, 0 or more and less than 1"
            raise ValueError(f"thresholds: voter {v} is {threshold!r} (allowed: {kind})")
        if weight:
            voters.append(_voter(values[v] * direction, float(threshold), bool(fixed), missing))
    return voters, [w for w in whole if w]


def _voter(values: np.ndarray, threshold: float, fixed: bool, missing: Missing) -> _Voter:
    """Turn one row of values (larger is better) into places and reaches."""
    n, known = len(values), int((~np.isnan(values)).sum())
    order = np.argsort(values)[:known]  # NaN would be last
    ordered = values[order]
    place = reach = high = np.searchsorted(ordered, ordered)
    if threshold:
        # Whom a candidate beats is a prefix of the ascending values: bisect for its end, all at once.
        reach = np.zeros(known, np.int64)
        while (reach < high).any():
            middle = (reach + high) // 2
            other = ordered[middle]
            least = threshold if fixed else threshold * np.maximum(np.abs(ordered), np.abs(other))
            beats = (ordered - other > least) & (reach < high)
            reach, high = np.where(beats, middle + 1, reach), np.where(beats, high, middle)
    # Unmeasured: beaten by nobody and beating nobody ('ignore'), or below every measured candidate ('last').
    below = n - known if missing == "last" else 0
    voter = _Voter(np.full(n, n if missing == "ignore" else 0, np.int32), np.zeros(n, np.int32))
    voter.place[order], voter.reach[order] = place + below, reach + below
    return voter


def _two_voters(a: _Voter, b: _Voter, lead: int) -> np.ndarray:
    """Copeland scores of two voters; ``lead``: weight of the first minus weight of the second.

    Equal weights: sign(a + b) = a + b, less the common opinion where both have the same. Unequal weights: the
    lighter voter decides the heavier one's ties only, so its opinion is also dropped where the two disagree.
    """
    scores = a.net + b.net - _both(a, b) + _both(a.reversed, b.reversed)
    if lead:
        heavy, light = (a, b) if lead > 0 else (b, a)
        scores += _both(heavy, light.reversed) - _both(heavy.reversed, light)
    return scores


def _both(a: _Voter, b: _Voter) -> np.ndarray:
    """(n,) int64: how many others each candidate beats for both voters.

    With the candidates in the order of ``a``, numbered by the order of ``b``, those whom i beats for both are
    the numbers below ``b.wins[i]`` among the first ``a.wins[i]``. They are counted bit by bit as in a wavelet
    matrix (F. Claude and G. Navarro, 2012): numbers without the bit move to the front, in the same order.
    """
    n = len(a.place)
    number = np.empty(n, np.int32)
    number[np.argsort(b.place)] = np.arange(n)
    numbers = number[np.argsort(a.place)]
    asked = np.argsort(b.wins)  # neighbours in this order read neighbouring memory
    bound, count = b.wins[asked], np.zeros(n, np.int64)
    ends = np.stack([np.zeros(n, np.int64), a.wins[asked]])  # between them are the numbers not yet decided
    for bit in reversed(range(n.bit_length())):
        high = (numbers >> bit & 1).astype(bool)
        lows = np.concatenate([[0], np.cumsum(~high)])  # how many before each place
        inside = lows[ends]
        above = (bound >> bit & 1).astype(bool)  # then numbers without the bit are below the bound
        count += above * (inside[1] - inside[0])
        ends = np.where(above, lows[-1] + ends - inside, inside)
        numbers = np.concatenate([numbers[~high], numbers[high]])
    return count[np.argsort(asked)]


def _tiles(voters: list[_Voter], weights: list[int]) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Margins of all pairs, tile by tile; of two mirrored tiles only the one above the diagonal."""
    kind = np.min_scalar_type(-sum(weights)).type  # the narrowest integers are the fastest
    blocks = [slice(start, start + _TILE) for start in range(0, len(voters[0].place), _TILE)]
    for i, rows in enumerate(blocks):
        for columns in blocks[i:]:
            margins = kind(0)
            for voter, weight in zip(voters, weights):
                wins = voter.place[columns] < voter.reach[rows, None]
                losses = voter.place[rows, None] < voter.reach[columns]
                margins = margins + kind(weight) * (wins.view(np.int8) - losses.view(np.int8))
            yield rows, columns, margins


def _square(margins: np.ndarray) -> np.ndarray:
    margins = np.asarray(margins)
    shape = margins.shape
    if len(shape) != 2 or shape[0] != shape[1] or not len(margins) or (margins != -margins.T).any():
        raise ValueError(f"margins: shape {shape} (allowed: square and antisymmetric)")
    return margins
