"""The benchmark itself: it compares answers, not only times, says whether an aim is met, and its table can be read."""
from __future__ import annotations

import subprocess

import pytest

from lib.benchmark import build_queries, load_benchmark
from tests.benchmarks import measures as benchmarks
from tests.benchmarks.measures import Row
from tests.helpers_queries import make_query


def test_copeland_is_compared_with_an_independent_implementation():
    row = benchmarks.against_pref_voting(3, 20)
    assert row.ours > 0 and row.theirs > 0


def test_a_wrong_answer_stops_the_benchmark(monkeypatch):
    right = benchmarks.copeland
    monkeypatch.setattr(benchmarks, "copeland", lambda values, **kw: right(-values, **kw))
    with pytest.raises(AssertionError, match="the two disagree"):
        benchmarks.against_pref_voting(3, 20)


def test_training_step_is_compared_with_the_loop_over_ptms():
    row = benchmarks.training_step(queries=2, candidates=5, tokens=6, dim=16, heads=2)
    assert row.ratio > 1


def test_a_block_that_differs_from_the_loop_stops_the_benchmark(monkeypatch):
    monkeypatch.setattr(benchmarks.LoopedBlock, "forward", lambda self, ptm, context, mask: (ptm, None))
    with pytest.raises(AssertionError, match="the two disagree"):
        benchmarks.training_step(queries=2, candidates=5, tokens=6, dim=16, heads=2)


def test_a_large_query_has_candidates_of_its_own():
    big = benchmarks.large_query(make_query(n=6), 50)
    assert len(big) == 50 and big.candidates["model_id"].is_unique and big.candidates["macs_m"].is_unique


def test_a_recommendation_that_fails_is_not_skipped():
    with pytest.raises(subprocess.CalledProcessError):
        benchmarks.recommending(device="no_such_board")


def test_scores_of_many_candidates_are_timed_with_their_memory():
    assert any(q.task == "image_classification/flowers" for q in build_queries(load_benchmark(), "mcu"))
    rows = benchmarks.score_many(2000)
    assert [r.unit for r in rows] == ["s", "s", "GiB"] and all(r.ours > 0 for r in rows)


def test_table_gives_ratios_and_says_whether_aims_are_met():
    rows = [Row("x", 0.001, "peer of ours", 0.25, 100), Row("y", 3.0, aim=2.0), Row("z", 1.5, aim=2.0, unit="GiB"), Row("w", 0.1)]
    assert [r.met for r in rows] == [True, False, True, None]
    lines = benchmarks.table(rows).splitlines()
    assert "250.0x" in lines[1] and ">= 100x" in lines[1] and lines[1].rstrip().endswith("yes")
    assert "3.00 s" in lines[2] and lines[2].rstrip().endswith("no") and "1.50 GiB" in lines[3]
    assert len({len(line) for line in lines}) == 1
