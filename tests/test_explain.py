"""Attention and occlusion name the right tokens, and dropping a field is the same as never having known it."""
from __future__ import annotations

import numpy as np
import pytest

from lib.explain import agreement, explain, without
from lib.fusion import Fusion
from tests.helpers_queries import grid

PRIORITIES = {"accuracy": 1, "latency": 1}


@pytest.fixture(scope="module")
def fitted() -> tuple[Fusion, list]:
    queries = grid(3, 2)
    return Fusion(dim=16, epochs=3, seed=1).fit(queries), queries


def test_every_known_token_has_a_row(fitted):
    ranker, queries = fitted
    table = explain(ranker, queries[0], PRIORITIES)
    assert table["kind"].value_counts().to_dict() == {"task": 5, "hardware": 6, "priorities": 1}
    assert {"clock_mhz", "cores", "isa=armv8-a", "core_type=cortex-a53"} <= set(table["token"])
    assert (table["attention"] > 0).all() and table["attention"].sum() < 1
    assert table["effect"].is_monotonic_decreasing


def test_occlusion_of_a_specification_equals_a_sheet_without_it(fitted):
    ranker, queries = fitted
    query = queries[0]
    row = explain(ranker, query, PRIORITIES, candidate=2).set_index("token").loc["clock_mhz"]
    before, after = ranker.score(query, PRIORITIES), ranker.score(without(query, {"clock_mhz"}), PRIORITIES)
    change = (after - after.mean()) - (before - before.mean())
    assert row["change"] == pytest.approx(change[2], abs=1e-5)
    assert row["effect"] == pytest.approx(np.sqrt((change**2).mean()), abs=1e-5)


def test_agreement_is_a_rank_correlation(fitted):
    ranker, queries = fitted
    table = explain(ranker, queries[0], PRIORITIES)
    assert agreement(table.assign(effect=table["attention"] ** 3)) == pytest.approx(1)
    assert agreement(table.assign(effect=-table["attention"])) == pytest.approx(-1)
    assert np.isnan(agreement(table.head(2)))


def test_refuses_what_it_cannot_explain(fitted):
    ranker, queries = fitted
    with pytest.raises(ValueError, match="not trained"):
        explain(Fusion(), queries[0], PRIORITIES)
    with pytest.raises(ValueError, match="allowed: 0 to 7"):
        explain(ranker, queries[0], PRIORITIES, candidate=8)
