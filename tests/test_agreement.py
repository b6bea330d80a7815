"""Repetitions are aligned as described, and the noise put into made-up figures is found again."""
import numpy as np
import pandas as pd
import pytest

from lib import agreement
from lib.benchmark import load_benchmark


@pytest.fixture(scope="module")
def table():
    return agreement.prepare(load_benchmark())


@pytest.fixture(scope="module")
def repeats(table):
    return agreement.repeats(table)


def frame(rows):
    return pd.DataFrame(rows, columns=["chip", "board", "item", "precision", "value"])


def noisy(scatter, units=6, items=40, shift=1.3, seed=0):
    """Two blocks a unit: log-uniform figures, the second with log-normal noise and a shift of its own."""
    rng, out = np.random.default_rng(seed), []
    for unit in range(units):
        x = np.exp(rng.uniform(0, 3, items))
        out.append(pd.DataFrame({"unit": f"chip {unit}", "pair": unit, "x": x, "y": x * shift * np.exp(scatter * rng.standard_normal(items))}))
    return pd.concat(out, ignore_index=True)


def test_blocks_are_aligned_on_what_both_hold():
    rows = [("c", board, item, "int8", value) for board, values in {"a": [1, 2, 4, 8], "b": [2, 4, 8]}.items() for item, value in zip("pqrs", values)]
    rows += [("c", "b", "p", "int8", 4), ("d", "a", "p", "int8", 7), ("d", "e", "p", "int8", 7), ("c", "b", "s", "fp32", 9)]
    found = agreement.aligned(frame(rows), ["chip"], ["board"])
    assert found[["a_0", "b_0", "unit"]].drop_duplicates().values.tolist() == [["a", "b", "c"]]
    assert found["x"].tolist() == [1, 2, 4] and found["y"].tolist() == [3, 4, 8]  # two figures of p: their median
    assert len(agreement.aligned(frame(rows), ["chip"], ["board"], least=1)["pair"].unique()) == 2
    assert agreement.aligned(frame(rows[:4]), ["chip"], ["board"]).empty


def test_blocks_may_have_unstated_keys():
    rows = [(None, board, item, "int8", 1.0) for board in "ab" for item in "pqr"]
    assert len(agreement.aligned(frame(rows), ["chip"], ["board"], unit="board")) == 3


def test_noise_splits_shift_and_scatter():
    exact = agreement.noise(noisy(0.0))
    assert np.allclose(exact["shift"], 0.3) and np.allclose(exact["scatter"], 0)
    assert agreement.noise(noisy(0.05, items=400))["scatter"].mean() == pytest.approx(0.05, rel=0.1)
    points = pd.DataFrame({"unit": "u", "pair": 0, "x": [70.0, 80, 90], "y": [69.0, 80, 91]})
    assert agreement.noise(points, relative=False)[["shift", "scatter"]].iloc[0].tolist() == pytest.approx([0, 1.4826])


def test_reversals_count_orders_that_change():
    def of(y, **options):
        return agreement.reversals(pd.DataFrame({"unit": "u", "pair": 0, "x": [1.0, 2, 4], "y": y}), **options)

    assert of([1, 2, 4])["reversed"].tolist() == [0] * 6
    assert of([4, 2, 1])["reversed"].tolist() == [1] * 6
    assert sorted(of([1, 1, 4])["reversed"]) == [0, 0, 0, 0, 0.5]  # equal in one block: no gap to read there
    assert sorted(of([1, 2, 4])["gap"].unique()) == [0.5, 0.75]
    assert sorted(of([1, 2, 4], relative=False)["gap"].unique()) == [1, 2, 3]
    assert len(agreement.reversals(noisy(0.1, units=1), most=10)) == 2 * 45


def test_indifference_finds_the_gap_that_the_noise_implies():
    # Two blocks that scatter by s reverse a gap of 1.28 sqrt(2) s once in ten (normal noise, flat prior).
    found, low, high = agreement.indifference(agreement.reversals(noisy(0.04, units=12, items=120)), draws=50)
    assert found == pytest.approx(1.2816 * np.sqrt(2) * 0.04, rel=0.25)
    assert low <= found <= high
    assert agreement.indifference(agreement.reversals(noisy(0.08, units=12, items=120)), draws=1)[0] > found
    assert agreement.indifference(agreement.reversals(noisy(0.04, units=12, items=120)), share=0.2, draws=1)[0] < found


def test_indifference_at_the_ends():
    still = agreement.reversals(noisy(0.0))
    assert agreement.indifference(still, draws=1)[0] <= still["gap"].quantile(0.01)
    chance = still.assign(reversed=0.5)
    assert agreement.indifference(chance, draws=1)[0] == chance["gap"].max()
    assert np.isnan(agreement.indifference(agreement.reversals(noisy(0.1, units=1)))[1:]).all()  # one chip: no interval


def test_every_unit_weighs_the_same():
    steady, wild = agreement.reversals(noisy(0.01, units=1, items=100)), agreement.reversals(noisy(0.3, units=1, items=15)).assign(unit="wild")
    few = agreement.indifference(steady, draws=1)[0]
    assert agreement.indifference(pd.concat([steady, wild]), draws=1)[0] > 3 * few


@pytest.mark.parametrize("images", [367, 734, 1000])
def test_size_of_a_test_set_is_recovered(images):
    percent = 100 * np.random.default_rng(1).integers(images // 2, images, 30) / images
    sizes = agreement.whole_images(percent, range(200, 1500))
    assert (sizes["fits"] - sizes["chance"]).idxmax() == images - 200
    assert sizes["fits"].iloc[images - 200] == 1


def test_flowers_of_the_stm32_zoo_are_a_fifth_of_the_images():
    rows = load_benchmark().accuracies.query("source == 'stm32' and dataset == 'flowers' and metric == 'top1' and not excluded")
    sizes = agreement.whole_images(rows["value"], range(200, 1400))
    assert sizes["images"][(sizes["fits"] - sizes["chance"]).idxmax()] == 3670 // 5


def test_every_level_has_repetitions_that_differ_as_it_says(repeats):
    named = [(name.lower(), source) for name, source, *_ in agreement.LEVELS]
    assert list(repeats.groupby(["level", "source"], sort=False).groups) == named
    for name, source, *_ in agreement.LEVELS:
        part = repeats[repeats["level"].eq(name.lower()) & repeats["source"].eq(source)]
        if name.isupper():
            assert (part["a_0"] != part["b_0"]).all()
        assert part.groupby("pair").size().min() >= 3 and (part[["x", "y"]] > 0).all(axis=None)


def test_a_known_repetition_stands_in_the_table(repeats):
    """X-CUBE-AI 7.3 on the NUCLEO-L4R5ZI, timed by the vendor and a year later by Krai."""
    part = repeats[repeats["level"].eq("same program, other laboratory") & repeats["unit"].eq("stm32l4rx") & repeats["item"].str.contains("mobilenet")]
    assert [224.921, 230.468] in part[["x", "y"]].values.tolist()


def test_cycles_and_arithmetic(table):
    row = table[table["device_id"].eq("nucleo_h7a3zi_q")].iloc[0]
    assert row["mcycles"] == pytest.approx(row["latency_ms"] * 280 / 1000)
    fast, old = (table[table["source"].eq("ncnn") & table["cpu"] & table["core"].eq(core)] for core in ("cortex-a76", "cortex-a53"))
    assert set(fast["arithmetic"]) == {"fp16", "int8"} and set(old["arithmetic"]) == {"fp32", "int8"}
    assert not table.loc[table["device_id"].str.startswith("azure"), ["cpu", "equal_cores"]].any(axis=None)
