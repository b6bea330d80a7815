"""The rules of the joins, on the shipped tables."""
from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from lib.benchmark import (MIN_CANDIDATES, SUITES, VARIANT, Query, build_queries, describe, left_out, load_benchmark,
                           platform_queries, task_queries, transfer_queries, zoo)
from tests.helpers_queries import grid, make_query


@pytest.fixture(scope="module")
def benchmark_tables():
    start = time.perf_counter()
    tables = load_benchmark()
    tables.measurements.attrs["seconds"] = time.perf_counter() - start
    return tables


@pytest.fixture(scope="module")
def suites(benchmark_tables) -> dict[str, list[Query]]:
    return {name: build_queries(benchmark_tables, name) for name in SUITES}


def test_everything_loads_fast_and_small(benchmark_tables) -> None:
    assert benchmark_tables.measurements.attrs["seconds"] < 10  # 0.3 s alone; tests share the machine
    size = sum(t.memory_usage(deep=True).sum() for t in (benchmark_tables.measurements, benchmark_tables.accuracies, benchmark_tables.models))
    assert size < 500e6


def test_every_row_keeps_its_source_and_reference(benchmark_tables) -> None:
    for table in (benchmark_tables.measurements, benchmark_tables.accuracies):
        assert table["source"].notna().all() and table["source_ref"].notna().all()


def test_ids_are_canonical(benchmark_tables) -> None:
    assert set(benchmark_tables.measurements["device_id"]) <= set(benchmark_tables.devices["device_id"])
    assert set(benchmark_tables.measurements["model_id"]) <= set(benchmark_tables.models["model_id"])
    assert set(benchmark_tables.accuracies["model_id"]) <= set(benchmark_tables.models["model_id"])


@pytest.mark.parametrize("suite", ["mcu", "sbc", "npu"])
def test_candidates_have_accuracy_and_latency_and_are_distinct(suites, suite: str) -> None:
    assert suites[suite]
    for q in suites[suite]:
        assert len(q) >= MIN_CANDIDATES
        assert q.values[["accuracy", "latency_ms"]].notna().all(axis=None)
        assert not q.candidates.duplicated(VARIANT + ["pretrain_dataset", "training"]).any()
        assert q.specs["processor"] == q.platform.processor


def test_latency_of_an_architecture_serves_all_its_ptms(suites) -> None:
    query = next(q for q in suites["sbc"] if q.source == "ncnn+parc" and q.platform.device_id == "raspberry_pi_4b")
    table = pd.concat([query.candidates, query.values], axis=1)
    assert (table.groupby("model_id")["latency_ms"].nunique() == 1).all()
    assert (table.groupby("model_id")["pretrain_dataset"].nunique() > 1).any()


def test_latencies_are_the_published_ones(suites, benchmark_tables) -> None:
    raw = benchmark_tables.measurements
    rng = np.random.default_rng(0)
    for suite in ("mcu", "sbc", "npu", "latency"):
        for q in rng.permutation(np.array(suites[suite], object))[:10]:
            row = q.candidates.iloc[0]
            found = raw[(raw["device_id"] == q.platform.device_id) & (raw["model_id"] == row["model_id"]) & (raw["precision"] == row["precision"])
                        & (raw["runtime"] == q.platform.runtime)]
            assert (found["latency_ms"] == q.values["latency_ms"].iloc[0]).any(), q.name


def test_accuracies_cross_neither_sources_nor_data_sets_nor_precisions(suites, benchmark_tables) -> None:
    raw = benchmark_tables.accuracies.assign(zoo=zoo(benchmark_tables.accuracies))
    for suite in ("mcu", "sbc", "npu"):
        for q in suites[suite][::7]:
            source = q.source.split("+")[-1]
            rows = raw[(raw["zoo"] == source) & (raw["task"] == q.task) & (raw["metric"] == q.accuracy_metric)]
            for row, value in zip(q.candidates.itertuples(), q.values["accuracy"]):
                same = rows[(rows["model_id"] == row.model_id) & (rows["precision"] == row.precision)]
                assert same["value"].min() - 1e-9 <= value <= same["value"].max() + 1e-9, (q.name, row.model_id)


def test_excluded_rows_reach_no_query(suites, benchmark_tables) -> None:
    bad = benchmark_tables.measurements[benchmark_tables.measurements["excluded"]]
    assert bad["flags"].str.contains("component").any()
    parts = set(bad.loc[bad["flags"].str.contains("component"), "model_id"])
    whole = set(benchmark_tables.measurements.loc[~benchmark_tables.measurements["excluded"], "model_id"])
    assert not (parts - whole) & {m for q in suites["npu"] for m in q.candidates["model_id"]}


def test_one_run_configuration_stands_for_a_processor(suites, benchmark_tables) -> None:
    keys = [(q.source, q.task, q.accuracy_metric, q.platform.device_id, q.platform.processor, q.platform.runtime) for q in suites["sbc"]]
    assert len(keys) == len(set(keys))
    every = build_queries(benchmark_tables, "mcu", all_platforms=True)
    assert {q.name for q in suites["mcu"]} <= {q.name for q in every}


def test_counts_and_reasons_add_up(suites, benchmark_tables) -> None:
    counts = describe(suites["mcu"])
    assert counts["queries"] == len(suites["mcu"]) and counts["candidates"] == sum(map(len, suites["mcu"]))
    reasons = left_out(benchmark_tables, "npu").set_index("reason")["rows"]
    assert reasons["no accuracy of this variant"] > 0 and (reasons > 0).all()


def test_unknown_suite() -> None:
    with pytest.raises(ValueError, match="suite 'desk' is unknown"):
        build_queries(None, "desk")


def test_truth_ignores_unmeasured_metrics_and_refuses_none() -> None:
    query = make_query(n=6)
    assert query.metrics == ("accuracy", "latency", "memory", "storage")
    assert query.truth({"latency": 1, "energy": 5}).ranks.tolist() == query.truth({"latency": 1}).ranks.tolist()
    with pytest.raises(ValueError, match="none of energy was measured"):
        query.truth({"energy": 1})


def test_truth_treats_differences_within_noise_as_ties() -> None:
    query = make_query(n=5)
    query.values["latency_ms"] = [100.0, 101.0, 120.0, 150.0, 151.0]
    assert query.truth({"latency": 1}).ranks.tolist() == [1, 1, 3, 4, 4]


def test_platform_queries_unite_tasks() -> None:
    merged = platform_queries(grid(2, 3, 8))
    assert len(merged) == 2 and all(len(q) == 8 for q in merged)
    assert len(task_queries(grid(2, 3, 8))) == 3


def test_fine_tuning_studies_become_queries_without_a_board(benchmark_tables) -> None:
    queries = transfer_queries(benchmark_tables)
    assert {q.metrics for q in queries} == {("accuracy",)}
    assert len({(q.source, q.task, q.accuracy_metric) for q in queries}) == len(queries)
    ten = [q for q in queries if q.source == "model_spider_ten"]
    assert len(ten) == 8 and {len(q) for q in ten} == {10}
    assert {q.source for q in queries} >= {"parc", "sfda_supervised", "vtab", "transfergraph"}


def test_a_folder_without_tables_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match="holds no tables"):
        load_benchmark(tmp_path)
