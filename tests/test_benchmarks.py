"""The benchmark itself: it compares answers, not only times, and its table can be read."""
from __future__ import annotations

import pytest

from tests.benchmarks import __main__ as benchmarks


def test_copeland_is_compared_with_an_independent_implementation():
    row = benchmarks.against_pref_voting(3, 20)
    assert row.ours > 0 and row.theirs > 0


def test_a_wrong_answer_stops_the_benchmark(monkeypatch):
    right = benchmarks.copeland
    monkeypatch.setattr(benchmarks, "copeland", lambda values, **kw: right(-values, **kw))
    with pytest.raises(AssertionError, match="the two disagree"):
        benchmarks.against_pref_voting(3, 20)


def test_table_gives_ratios():
    text = benchmarks.table([benchmarks.Row("x", 0.001, "peer of ours", 0.25)])
    assert "250.0x" in text and len({len(line) for line in text.splitlines()}) == 1
