"""Counts of overhead against arithmetic by hand."""
from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from lib.baselines import BoostedTrees
from lib.overhead import count, effective_rate, networks, parameters, seconds
from lib.shadow import Shadow
from lib.spider import ModelSpider
from tests.helpers_queries import grid, make_query


def test_products_and_living_tensors_are_counted() -> None:
    def call() -> None:
        a = torch.ones(100, 50)
        b = a @ torch.ones(50, 200)  # a, the second factor and b live at once
        del a
        b[:10].sum()  # a view takes no memory

    counts = count(call)
    assert counts.macs_m == pytest.approx(100 * 50 * 200 / 1e6)
    assert counts.peak_kib * 256 == pytest.approx(100 * 50 + 50 * 200 + 100 * 200, abs=1)


def test_counting_follows_inference_and_leaves_no_trace() -> None:
    queries = grid(2, 2, 6)
    ranker = ModelSpider(epochs=1, dim=16, heads=2).fit(queries)
    counts = [count(lambda: ranker.score(queries[0])) for _ in range(2)]
    assert counts[0] == counts[1] and counts[0].macs_m > 0 and counts[0].peak_kib > 0
    more = count(lambda: ranker.score(make_query(n=12)))
    assert counts[0].macs_m < more.macs_m < 2 * counts[0].macs_m  # the task's part is shared by the candidates


def test_parameters_of_both_networks() -> None:
    shadow = Shadow(epochs=1, dim=16, heads=2).fit(grid(2, 2, 6))
    assert parameters(shadow) == sum(p.numel() for part in (shadow.task, shadow.hardware) for p in part.module.parameters())
    assert networks(BoostedTrees()) == [] and parameters(BoostedTrees()) == 0


def test_effective_rate_is_macs_over_time_with_its_error() -> None:
    query = make_query(n=9)
    query.values["latency_ms"] = query.candidates["macs_m"] / 4
    rate = effective_rate([query, query])
    assert rate.networks == 9 and rate.factor == pytest.approx(1)
    assert rate.gmacs == pytest.approx(4) and rate.predict(8) == pytest.approx(2)
    query.values.loc[0, "latency_ms"] *= 100
    off = effective_rate([query])
    assert off.gmacs == pytest.approx(4) and off.factor == pytest.approx(1) and 1 < off.factor90 < 100
    query.values["latency_ms"] = np.nan
    with pytest.raises(ValueError, match="0 networks with latency and MACs"):
        effective_rate([query])


def test_time_is_of_the_fastest_call_after_one_to_warm_up() -> None:
    naps = iter([0.2, 0.1, 0.01, 0.1])
    assert 0.01 <= seconds(lambda: time.sleep(next(naps)), 3) < 0.1 and next(naps, None) is None
