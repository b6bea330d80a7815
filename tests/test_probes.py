"""Probes: what is in a representation is read out, what is not stays hidden, and no chip is on both sides."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from lib.benchmark import Platform
from lib.probes import held_out, kind_of, latency_scale, mantel, nearest, pooled_tokens, specification_table, task_distances
from lib.shadow import HardwareRanker
from tests.helpers_queries import grid, make_query


def boards(n: int) -> list:
    """One query a board, two boards a chip."""
    return [make_query(board, n=6) for board in range(n)]


def test_distance_of_tasks_is_zero_to_itself_and_to_a_repeated_class() -> None:
    a, b = np.eye(4, dtype=np.float32)[:2], np.eye(4, dtype=np.float32)[2:]
    assert np.allclose(task_distances([a, b, a[[0, 1, 1]]]), [[0, 1, 0], [1, 0, 1], [0, 1, 0]])


def test_mantel_is_spearman_over_pairs_and_finds_structure() -> None:
    rng = np.random.default_rng(0)
    x, noise = rng.random(12), rng.random((12, 12))
    a = abs(x[:, None] - x)
    b = a + 0.1 * (noise + noise.T)
    found, pairs = mantel(a, b, 200), np.triu_indices(12, 1)
    assert found.rho == pytest.approx(spearmanr(a[pairs], b[pairs]).statistic)
    assert found.p == pytest.approx(1 / 201) and mantel(a, noise + noise.T, 200).p > 0.05


def test_scale_is_the_speed_of_a_board_not_of_its_networks() -> None:
    """Board b has 500 (1 + b) MHz; with one family only, latency is MACs / clock."""
    one_family = [q.subset(q.candidates.index[q.candidates["family"] == "alpha"]) for q in (make_query(5 * b, n=12) for b in range(3))]
    scale = latency_scale([one_family[0], one_family[1].subset([0, 1]), one_family[2]])
    assert np.allclose(scale - scale[0], -np.log10([1, 6, 11]), atol=0.02)


def test_table_keeps_what_is_not_stated_apart() -> None:
    queries = [make_query(0), replace(make_query(1), specs={"isa": "armv8-a"})]
    table = specification_table(queries, ["clock_mhz", "cores"], ["isa", "processor"])
    assert table.tolist() == [[np.log10(500), np.log10(4), 1, 1, 1, 1], [np.log10(500), np.log10(4), 0, 0, 1, 0]]
    assert specification_table(queries, (), ["isa"]).tolist() == [[1], [1]]


def test_pooled_tokens_are_the_mean_of_known_tokens() -> None:
    queries = grid(2, 1)
    ranker = HardwareRanker(epochs=1, dim=8, heads=2).fit(queries)
    both = pooled_tokens(ranker, [queries[0], replace(queries[0], specs={}), replace(queries[0], specs={"cores": 4.0})])
    assert both.shape == (3, 8) and not both[1].any() and both[0].any()
    assert np.allclose(both[2], pooled_tokens(ranker, [replace(queries[1], specs={"cores": 4.0})])[0], atol=1e-6)


def test_probe_reads_what_is_there_and_never_sees_the_chip_it_predicts() -> None:
    queries = boards(24)
    target = np.random.default_rng(0).standard_normal(12).repeat(2)  # of the chip
    seen = []

    def extractor(x: np.ndarray):
        def extract(train: list) -> np.ndarray:
            seen.append({q.soc for q in train})
            return x
        return extract

    found, far = held_out(queries, target, {"all": extractor(target[:, None] * [1, 2]), "name": extractor(np.eye(12).repeat(2, 0))}, folds=4)
    assert abs(found["all"] - target).max() < 0.1
    assert np.corrcoef(found["name"], target)[0, 1] < 0.3  # a chip's name says nothing of other chips
    assert all(len(chips) == 9 for chips in seen) and len(seen) == 8
    assert np.allclose(np.diag(far["all"]), 0) and far["all"].shape == (24, 24) and abs(far["all"]).max() < 2.001


def test_neighbours_have_other_chips_each_once() -> None:
    queries, place = boards(8), np.array([0, 0.1, 1, 1.1, 3, 3.1, 9, 9.1])
    assert nearest(abs(place[:, None] - place), queries, 2)[0].tolist() == [2, 4]


def test_classes_of_platforms() -> None:
    query = make_query()
    names = {("mcu", "mcu"): "MCU", ("sbc", "cpu"): "board CPU", ("phone", "gpu"): "GPU", ("mcu", "npu"): "NPU", ("server", "cpu"): "PC CPU", ("sbc", "mixed"): "other"}
    for (device, processor), name in names.items():
        assert kind_of(replace(query, specs={"device_class": device}, platform=Platform("x", processor, "y"))) == name
