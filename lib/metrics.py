"""The metrics of a query, their units and directions, and the user's priorities over them."""
from __future__ import annotations

from fractions import Fraction
from typing import Mapping, NamedTuple


class Metric(NamedTuple):
    """One measured quantity: column of a query's table, unit, and +1 if more is better, -1 if less is."""

    name: str
    column: str
    unit: str
    direction: int


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("accuracy", "accuracy", "%", +1),
        Metric("latency", "latency_ms", "ms", -1),
        Metric("memory", "memory_kib", "KiB", -1),
        Metric("storage", "storage_kib", "KiB", -1),
        Metric("energy", "energy_uj", "µJ", -1),
    )
}
#: Metrics of the board, which do not depend on the task: name -> column.
HARDWARE: dict[str, str] = {m.name: m.column for m in METRICS.values() if m.name != "accuracy"}
DEFAULT_PRIORITIES: dict[str, Fraction] = {"accuracy": Fraction(1), "latency": Fraction(1)}


def parse_priorities(text: str) -> dict[str, Fraction]:
    """Read priorities such as ``accuracy=2,latency=1/2``.

    Exact fractions, not floats: 0.1 + 0.2 against 0.3 must be a tie, not a spurious winner.

    Raises
    ------
    ValueError
        Unknown or repeated metric, a weight that is no number, negative weights, or all weights zero.
    """
    weights: dict[str, Fraction] = {}
    for part in text.split(","):
        name, equals, value = (s.strip() for s in part.partition("="))
        if not equals or not value:
            raise ValueError(f"weights: '{part.strip()}' is not of the form metric=weight (e.g. accuracy=2,latency=1)")
        if name in weights:
            raise ValueError(f"weights: metric '{name}' is given twice")
        try:
            weights[name] = Fraction(value)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"weights: '{value}' for '{name}' is not a number (allowed: 2, 0.5, 1/3)") from None
    return check_priorities(weights)


def check_priorities(weights: Mapping[str, int | Fraction]) -> dict[str, Fraction]:
    """Validate priorities and return them as fractions, zero weights dropped.

    Raises
    ------
    ValueError
        See :func:`parse_priorities`.
    """
    for name, weight in weights.items():
        if name not in METRICS:
            raise ValueError(f"weights: unknown metric '{name}' (allowed: {', '.join(METRICS)})")
        if weight < 0:
            raise ValueError(f"weights: weight {weight} of '{name}' is negative (allowed: 0 or more)")
    positive = {name: Fraction(w) for name, w in weights.items() if w > 0}
    if not positive:
        raise ValueError("weights: at least one metric needs a weight above 0")
    return positive
