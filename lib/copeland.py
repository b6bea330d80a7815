"""Weighted Copeland aggregation: several rankings of the same candidates -> one ranking, exactly.

Each voter (a metric) compares every pair of candidates. A pair is won by the side with the larger total
weight of voters, and a candidate's Copeland score is its number of won pairs minus its number of lost pairs:

    score(i) = sum over j of sign( sum over voters v of weight_v * opinion_v(i, j) ),   opinion in {+1, 0, -1}

(A. H. Copeland, 1951). Counting a tie as half a win ("Copeland^0.5") gives the same ranking, because score =
2 * points - (n - 1); counting a tie as a full win ("Llull") does not.

Policies, none of them silent:

* Weights are integers or Fractions and all sums are exact. Floats are refused unless integral: 0.1 + 0.2
  against 0.3 must be a tie.
* ``thresholds``: a voter is indifferent between candidates whose values differ by no more than its threshold.
  Such indifference is *not transitive* (a ~ b and b ~ c, yet a > c may hold), so a voter's opinions need not
  form a ranking, and even a single voter may give tied neighbours different Copeland scores.
* ``missing="ignore"``: a voter that has no value (NaN) for a candidate has no opinion on its pairs, which is
  not transitive either. ``missing="last"``: measured candidates beat unmeasured ones, which tie.
* Equal scores are returned as one group and share a rank.

How it is fast: a voter is stored as two integers per candidate, ``place`` and ``reach``, so that *i beats j*
is ``place[j] < reach[i]`` whatever its threshold and missing values. One voter needs a sort, two voters a
count of dominated points in the plane (O(n log n), no table of pairs), more voters a pass over the pairs in
small tiles.
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

_TILE = 256, 2048  # pairs compared at a time: a tile and its accumulator stay in the second-level cache
_CHUNK = 15  # log2 of the run length below which the dominance count stays within the cache
_MAX_TABLE = 16384  # candidates of a full margin matrix (2 GiB)
_MAX_KEMENY = 12


@dataclass(frozen=True, eq=False)
class Copeland:
    """Result of :func:`copeland`.

    Attributes
    ----------
    scores : (n,) int64
        Pairs won minus pairs lost, between -(n - 1) and n - 1.
    """

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


class _Voter(NamedTuple):
    """Opinions of one voter: i beats j if and only if ``place[j] < reach[i]``. Both (n,) int32 in 0..n."""

    place: np.ndarray
    reach: np.ndarray

    @property
    def reversed(self) -> "_Voter":
        n = np.int32(len(self.place))
        return _Voter(n - self.reach, n - self.place)

    @property
    def net(self) -> np.ndarray:
        """(n,) int64: how many candidates each one beats (``reach``) minus how many beat it."""
        n = len(self.place)
        beaten_by = n - np.cumsum(np.bincount(self.reach, minlength=n + 1))[self.place]
        return self.reach - beaten_by


def copeland(
    values: np.ndarray,
    weights: Sequence[Weight] | None = None,
    *,
    directions: Sequence[int] | None = None,
    thresholds: Sequence[float] | None = None,
    absolute: Sequence[bool] | None = None,
    missing: Missing = "ignore",
) -> Copeland:
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
        Wrong shape, infinite value, weight that is negative or not exact, all weights zero, bad direction,
        threshold or policy.
    """
    voters, w = _electorate(values, weights, directions, thresholds, absolute, missing)
    if len(voters) == 1:
        return Copeland(np.sign(w[0]) * voters[0].net)
    if len(voters) == 2:
        return Copeland(_two_voters(*voters, w[0] - w[1]))
    scores = np.zeros(len(voters[0].place), np.int64)
    for rows, columns, margins in _tiles(voters, w):
        signs = np.sign(margins).astype(np.int8, copy=False)
        # A tile is narrower than the int16 range, so these sums cannot overflow and stay in vector registers.
        scores[rows] += np.add.reduce(signs, axis=1, dtype=np.int16)
        if rows.start != columns.start:  # the mirrored tile below the diagonal has the opposite signs
            scores[columns] -= np.add.reduce(signs, axis=0, dtype=np.int16)
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
        margins[columns, rows] = -tile.T.astype(np.int64)
    return margins


def condorcet_winner(margins: np.ndarray) -> int | None:
    """The candidate that beats every other one, or None."""
    beaten = (_square(margins) > 0).sum(axis=1)
    winner = int(beaten.argmax())
    return winner if beaten[winner] == len(beaten) - 1 else None


def smith_set(margins: np.ndarray) -> tuple[int, ...]:
    """Smallest non-empty set whose members all beat everyone outside it; one member = a Condorcet winner."""
    margins = _square(margins)
    inside = np.zeros(len(margins), bool)
    inside[np.sign(margins).sum(axis=1).argmax()] = True  # the highest Copeland score is always a member
    while True:  # whoever is not beaten by all members must be a member
        grown = inside | (margins[inside] <= 0).any(axis=0)
        if (grown == inside).all():
            return tuple(np.flatnonzero(inside).tolist())
        inside = grown


def condorcet_cycles(margins: np.ndarray) -> int:
    """Number of cycles a > b > c > a in the strict majority relation."""
    wins = (_square(margins) > 0).astype(float)
    return round(float(np.einsum("ij,ji->", wins @ wins, wins)) / 3)


def borda(values: np.ndarray, weights: Sequence[Weight] | None = None, **policies) -> np.ndarray:
    """(n,) int64 symmetric Borda scores: the row sums of :func:`pairwise_margins`, without the table.

    Arguments and errors as in :func:`copeland`.
    """
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
        found: list[Kemeny] = []
        for top in members:
            rest = best[subset ^ (1 << top)]
            gain = sum(m[top][j] for j in members)
            found.append(Kemeny((top, *rest.order), rest.agreement + gain, rest.optima))
        highest = max(k.agreement for k in found)
        equal = [k for k in found if k.agreement == highest]
        best.append(equal[0]._replace(optima=sum(k.optima for k in equal)))
    return best[-1]


def integer_weights(weights: Sequence[Weight]) -> list[int]:
    """Scale exact weights to the smallest integers of the same ratio.

    ValueError for a weight that is negative or neither integer nor Fraction, or if none is above 0.
    """
    exact = []
    for i, weight in enumerate(weights):
        if isinstance(weight, (float, np.floating)) and math.isfinite(weight) and weight == int(weight):
            weight = int(weight)
        if isinstance(weight, bool) or not isinstance(weight, Rational):
            raise ValueError(f"weights: weight {i} is {weight!r} (allowed: exact numbers, int or Fraction)")
        if weight < 0:
            raise ValueError(f"weights: weight {i} is {weight} (allowed: 0 or more)")
        exact.append(Fraction(weight.numerator, weight.denominator))
    if not any(exact):
        raise ValueError("weights: at least one weight must be above 0")
    scale = math.lcm(*(w.denominator for w in exact))
    whole = [int(w * scale) for w in exact]
    divisor = math.gcd(*whole)
    return [w // divisor for w in whole]


def _electorate(
    values, weights, directions=None, thresholds=None, absolute=None, missing="ignore"
) -> tuple[list[_Voter], list[int]]:
    """Check every argument; return the voters of positive weight and their integer weights."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"values: shape {values.shape} (allowed: voters x candidates, at least one of each)")
    if np.isinf(values).any():
        v, i = np.argwhere(np.isinf(values))[0]
        raise ValueError(f"values: voter {v}, candidate {i} is infinite (allowed: finite or NaN)")
    if missing not in ("ignore", "last"):
        raise ValueError(f"missing: '{missing}' (allowed: 'ignore', 'last')")
    n_voters, n = values.shape
    given = {"weights": weights, "directions": directions, "thresholds": thresholds, "absolute": absolute}
    for name, default in (("weights", 1), ("directions", 1), ("thresholds", 0.0), ("absolute", False)):
        given[name] = [default] * n_voters if given[name] is None else list(given[name])
        if len(given[name]) != n_voters:
            raise ValueError(f"{name}: {len(given[name])} given for {n_voters} voters")
    whole = integer_weights(given["weights"])
    if sum(whole) * n >= 2**62:
        raise ValueError(f"weights: whole numbers of this ratio sum to {sum(whole)}, too large to be exact")
    voters = []
    settings = zip(given["directions"], given["thresholds"], given["absolute"])
    for v, (direction, threshold, fixed) in enumerate(settings):
        if direction not in (1, -1):
            raise ValueError(f"directions: voter {v} is {direction!r} (allowed: +1, -1)")
        if not (0 <= threshold < (math.inf if fixed else 1)):
            kind = "absolute, 0 or more" if fixed else "relative, 0 or more and less than 1"
            raise ValueError(f"thresholds: voter {v} is {threshold!r} (allowed: {kind})")
        if whole[v]:
            voters.append(_voter(values[v] * direction, float(threshold), bool(fixed), missing))
    return voters, [w for w in whole if w]


def _voter(values: np.ndarray, threshold: float, fixed: bool, missing: Missing) -> _Voter:
    """Turn one row of values (larger is better) into places and reaches."""
    n = len(values)
    order = np.argsort(values)  # NaN last
    ordered = values[order[: n - np.isnan(values).sum()]]
    known = len(ordered)
    first = np.r_[True, ordered[1:] != ordered[:-1]] if known else np.zeros(0, bool)
    place = np.maximum.accumulate(np.where(first, np.arange(known), 0)) if known else np.zeros(0, np.int64)
    reach = place
    if threshold:
        # Whom a candidate beats is a prefix of the ascending values: bisect for its end, all at once.
        reach, high = np.zeros(known, np.int64), np.arange(known)
        while (reach < high).any():
            middle = (reach + high) // 2
            other = ordered[middle]
            least = threshold if fixed else threshold * np.maximum(np.abs(ordered), np.abs(other))
            beats = (ordered - other > least) & (reach < high)
            reach, high = np.where(beats, middle + 1, reach), np.where(beats, high, middle)
    # Unmeasured: beaten by nobody and beating nobody ('ignore'), or below every measured candidate ('last').
    below = n - known if missing == "last" else 0
    voter = _Voter(np.full(n, n if missing == "ignore" else 0, np.int32), np.zeros(n, np.int32))
    voter.place[order[:known]], voter.reach[order[:known]] = place + below, reach + below
    return voter


def _two_voters(first: _Voter, second: _Voter, lead: int) -> np.ndarray:
    """Copeland scores of two voters; ``lead``: weight of the first minus weight of the second.

    Equal weights: sign(a + b) = a + b, less the common opinion where both have the same. Unequal weights: the
    lighter voter decides the heavier one's ties, so b counts only where a = 0; also drop b where the two
    disagree.
    """
    scores = first.net + second.net + _common(first, second)
    if lead:
        heavy, light = (first, second) if lead > 0 else (second, first)
        scores -= _common(heavy, light.reversed)
    return scores


def _common(a: _Voter, b: _Voter) -> np.ndarray:
    """(n,) int64: others that beat i for both voters, minus others that i beats for both.

    Every candidate is two points, (place, place) and (reach, reach), and j is beaten by i for both voters
    when j's first point lies left of and below i's second. All 2n points are laid out in the order of the
    second voter, then split stably by the first voter's order, one bit at a time from the highest: whoever
    moves to the upper half has in its run all points of the lower half that precede it for both voters. Only
    points of the other kind count.
    """
    n = len(a.place)
    index = np.arange(2 * n)
    orders = []
    for voter in (a, b):
        key = np.concatenate([2 * voter.place + 1, 2 * voter.reach])  # equal: reach first, 'beats' is strict
        orders.append(np.sort(key.astype(np.int64) << 32 | index) & 0xFFFFFFFF)
    position = np.empty(2 * n, np.int32)  # of each point for the first voter
    position[orders[0]] = index
    # The lowest bit tells the two kinds of points apart.
    code = (position[orders[1]] << 1 | (orders[1] >= n)).astype(np.int64)
    count = np.zeros(2 * n, np.int64)
    bits = (2 * n - 1).bit_length()
    code, count = _split(code, count, range(bits - 1, _CHUNK - 1, -1))
    for start in range(0, 2 * n, 1 << _CHUNK):  # these runs no longer mix, and fit in the cache
        run = slice(start, start + (1 << _CHUNK))
        count[run] = _split(code[run], count[run], range(min(bits, _CHUNK) - 1, -1, -1))[1]
    before = count[position]  # now in the first voter's order
    both_beaten = before[n:]
    after = np.full(n, n)  # reaches behind place i for both = all - not for a - not for b + for neither
    for voter in (a, b):
        after -= np.cumsum(np.bincount(voter.reach, minlength=n + 1))[voter.place]
    return after + before[:n] - both_beaten


def _split(code: np.ndarray, count: np.ndarray, levels: range) -> tuple[np.ndarray, np.ndarray]:
    """Radix passes of :func:`_common` over the given bits of ``code >> 1``."""
    index = np.arange(len(code))
    for level in levels:
        upper = code >> (level + 1) & 1
        kind = code & 1
        step = (1 - upper) << (kind << 5)  # two counters in one: kind 0 in the low 32 bits, kind 1 above
        total = np.cumsum(step) - step
        width = 2 << level
        total -= np.repeat(total[::width], width)[: len(code)]
        low, high = total & 0xFFFFFFFF, total >> 32
        count = count + upper * np.where(kind, low, high)
        lower_before = low + high
        target = np.where(upper, index - lower_before + (1 << level), lower_before + (index & -width))
        moved_code, moved_count = np.empty_like(code), np.empty_like(count)
        moved_code[target], moved_count[target] = code, count
        code, count = moved_code, moved_count
    return code, count


def _tiles(voters: list[_Voter], weights: list[int]) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Margins of all pairs, tile by tile; of two mirrored tiles only the one above the diagonal.

    A tile is valid until the next one is asked for. The narrowest integers that hold ranks and sums are used.
    """
    n = len(voters[0].place)
    small = np.int16 if n < 2**15 else np.int32
    voters = [_Voter(v.place.astype(small), v.reach.astype(small)) for v in voters]
    kind = next(k for k in (np.int8, np.int16, np.int32, np.int64) if sum(weights) <= np.iinfo(k).max)
    height, breadth = _TILE
    for top in range(0, n, height):
        rows = slice(top, min(top + height, n))
        # The square on the diagonal stands alone, so that every other tile has a mirror image.
        for left in (top, *range(rows.stop, n, breadth)):
            columns = rows if left == top else slice(left, min(left + breadth, n))
            shape = rows.stop - rows.start, columns.stop - columns.start
            margins, beats, scaled = np.zeros(shape, kind), np.empty(shape, bool), np.empty(shape, kind)
            for (place, reach), weight in zip(voters, weights):
                for add, low, high in (
                    (np.add, place[None, columns], reach[rows, None]),
                    (np.subtract, place[rows, None], reach[None, columns]),
                ):
                    won = np.less(low, high, out=beats).view(np.int8)
                    votes = won if weight == 1 else np.multiply(won, kind(weight), out=scaled)
                    add(margins, votes, out=margins)
            yield rows, columns, margins


def _square(margins: np.ndarray) -> np.ndarray:
    margins = np.asarray(margins)
    shape = margins.shape
    if len(shape) != 2 or shape[0] != shape[1] or not len(margins) or (margins != -margins.T).any():
        raise ValueError(f"margins: shape {shape} (allowed: square and antisymmetric)")
    return margins
