"""Rank labels of sampled tasks as queries, and the controls that the Model Spider chapter uses."""
from __future__ import annotations

import numpy as np
import pytest

from lib.baselines import MeanRank
from lib.benchmark import load_benchmark
from lib.evaluation import weighted_tau
from lib.labels import ZOOS, best_fixed_order, label_queries, leave_one_out, rank_labels, swap_tokens
from lib.tokens import MAX_PROTOTYPES
from tests.helpers_queries import grid

TARGETS = {"model_spider_ten": {"fgvc_aircraft", "caltech101", "stanford_cars", "cifar10", "cifar100", "dtd", "oxford_pets", "sun397"},
           "model_spider_multi_source": {"aid", "cub200", "dtd", "fgvc_aircraft", "oxford_pets", "stl10", "vlcs"}}


@pytest.mark.parametrize("zoo, ptms", [("model_spider_ten", 10), ("model_spider_multi_source", 42)])
def test_sampled_tasks_share_no_data_set_with_the_targets(zoo, ptms):
    queries = label_queries(load_benchmark(), zoo)
    assert len(queries) == 96 and {len(q) for q in queries} == {ptms}
    assert not {s for q in queries for s in q.parent.split("|")} & TARGETS[zoo]
    assert all(1 <= len(q.prototypes["names"]) <= MAX_PROTOTYPES for q in queries if q.prototypes)


def test_thirteen_tasks_are_those_of_the_published_script():
    labels = rank_labels()
    assert set(labels["zoo"]) == set(ZOOS.values())
    assert labels[labels["published"]].groupby("zoo")["task"].nunique().to_dict() == {"model_spider_ten": 13}


def test_swapped_tokens_belong_to_another_query():
    queries = [q for q in grid(1, 5)]
    swapped = swap_tokens(queries, seed=3)
    assert sorted(float(q.prototypes["names"].sum()) for q in swapped) == sorted(float(q.prototypes["names"].sum()) for q in queries)
    assert all(a.prototypes is not b.prototypes and a.task == b.task for a, b in zip(queries, swapped))


def test_leave_one_out_never_trains_on_the_held_out_data_set():
    queries, seen = grid(1, 4), []

    class Spy(MeanRank):
        def fit(self, train):
            seen.append({q.parent for q in train})
            return super().fit(train)

    out = leave_one_out(Spy, queries)
    assert len(out) == 4 and all(q.parent not in parents for q, parents in zip(queries, seen))


def test_best_fixed_order_is_not_beaten_by_an_exchange():
    values = np.random.default_rng(0).random((4, 5))
    best = best_fixed_order(values)
    quality = lambda s: np.mean([weighted_tau(v, s) for v in values])  # noqa: E731
    orders = [best.copy() for _ in range(10)]
    for order, (i, j) in zip(orders, [(i, j) for i in range(5) for j in range(i)]):
        order[[i, j]] = order[[j, i]]
    assert all(quality(best) >= quality(o) for o in orders)
    assert np.allclose(best_fixed_order(values[:1]).argsort(), values[0].argsort())
