"""The recommender: measured figures are used as measured, predictions are labelled and sane, ties share ranks."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import offer, paths, shipped
from lib.benchmark import build_queries, load_benchmark
from lib.copeland import Copeland
from lib.filling import Figures, in_half_precision
from lib.metrics import parse_priorities
from lib.neighbours import Estimate, Neighbours, core
from lib.recommend import COLUMNS, recommend

FLOWERS, H747 = "image_classification/flowers", "stm32h747i_disco"


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark()


@pytest.fixture(scope="module")
def queries(benchmark):
    return shipped.training_queries(benchmark)


@pytest.fixture(scope="module")
def known():
    return recommend(FLOWERS, H747, weights="accuracy=1,latency=1")


@pytest.fixture
def write(tmp_path):
    def make(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return make


@pytest.fixture
def m7(write):
    return write("m7.yaml", "core_type: Cortex-M7\nclock_mhz: 550\n")


# ------------------------------------------------------------------------------------------------ measured

def test_a_measured_query_gets_its_ground_truth(benchmark, known):
    query = next(q for q in build_queries(benchmark, "mcu") if q.task == FLOWERS and q.platform.device_id == H747)
    truth = query.truth(parse_priorities("accuracy=1,latency=1"))
    keys = ["model_id", "input_shape", "precision"]
    expected = query.candidates[keys].assign(expected=truth.ranks, score=truth.scores).merge(known, on=keys, suffixes=("_true", ""))
    assert len(expected) == len(known) == len(query)
    assert (expected["expected"] == expected["rank"]).all() and (expected["score_true"] == expected["score"]).all()
    assert set(known["accuracy_kind"]) | set(known["latency_kind"]) == {"measured"}
    assert known["evidence"].str.contains("latency, memory, storage measured by stm32").all()


def test_columns_and_ranks(known):
    assert list(known) == COLUMNS
    assert known["rank"].is_monotonic_increasing and known["rank"].iloc[0] == 1
    assert known["rank"].tolist() == Copeland(known["score"].to_numpy()).ranks.tolist()
    assert known["rank"].duplicated().any(), "this query has ties, which share a rank"


@pytest.mark.parametrize("ranker", ["fusion", "truth"])
def test_every_ranker_follows_what_was_measured(known, ranker):
    other = recommend(FLOWERS, H747, ranker=ranker)
    pd.testing.assert_frame_equal(other, known, check_dtype=False)


def test_nothing_but_the_tables_is_loaded_where_all_is_measured():
    code = ("import sys; from lib.recommend import recommend; "
            f"recommend('{FLOWERS}', '{H747}', weights='accuracy=1,latency=1,memory=1'); "
            "print([m for m in ('torch', 'pandera', 'sklearn', 'matplotlib') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=paths.ROOT, env=os.environ | {"PYTHONPATH": str(paths.ROOT)})
    assert done.stdout.strip() == "[]", done.stderr


def test_a_gpu_in_half_precision_has_no_measured_accuracy():
    table = recommend("image_classification/oxford_pets", "jetson_nano", processor="gpu", top=10)
    assert set(table["precision"]) == {"fp16"} and set(table["latency_kind"]) == {"measured"}
    assert set(table["accuracy_kind"]) == {"predicted"} and table["evidence"].str.contains("as in fp32").all()


def test_int8_is_never_taken_for_another_precision():
    pool = pd.DataFrame({"model_id": ["a", "b"], "input_shape": ["1x1x3"] * 2, "precision": ["int8", "fp32"]})
    found = in_half_precision(pool, pool.assign(precision="fp16"))
    assert found["precision"].tolist() == ["int8", "fp16"] and found["half"].tolist() == [False, True]


def test_accuracies_of_two_sources_never_meet():
    for device in ("raspberry_pi_5", "jetson_nano"):
        evidence = recommend("image_classification/oxford_pets", device)["evidence"]
        assert evidence.str.extract(r"(?:measured|fp32,) by (\w+) on")[0].dropna().nunique() <= 1


# ------------------------------------------------------------------------------------------------ predicted

def test_an_unknown_cortex_m7_runs_as_the_known_one_at_its_clock(known, m7):
    table = recommend(FLOWERS, m7, weights="accuracy=2,latency=1")
    both = known.merge(table, on=["model_id", "input_shape", "precision"], suffixes=("", "_new"))
    assert len(both) == len(known) == len(table)
    ratio = both["latency_ms_new"] / both["latency_ms"]
    assert ratio.between(0.85 * 400 / 550, 1.15 * 400 / 550).all()
    assert set(table["latency_kind"]) == {"predicted"} and set(table["accuracy_kind"]) == {"measured"}
    assert table["evidence"].str.contains(H747).sum() >= len(table) - 1
    np.testing.assert_allclose(both["memory_kib_new"], both["memory_kib"], rtol=0.02)


def test_a_chip_that_was_measured_beats_its_core(benchmark, write):
    board = write("b.yaml", "core_type: cortex-a76+cortex-a55\nsoc: RK3588S\nclock_mhz: 2400\ncores: 8\ndevice_class: sbc\n")
    evidence = recommend("image_classification/imagenet", board, top=3)["evidence"]
    chips = benchmark.devices.set_index("device_id")["soc"].fillna("")
    named = evidence.str.extract(r"predicted from (\w+)")[0]
    assert chips[named].str.contains("RK3588").all()


@pytest.mark.parametrize("fields, platform, source", [
    ("ram_mib: 512\n", "cpu, ncnn", "model_traits"), ("npu: Hexagon (HTP v75)\nnpu_tops: 20\n", "npu, qnn", "qaihub"),
    ("device_class: mcu\nclock_mhz: 300\n", "mcu, stedgeai", "stm32")])
def test_little_is_enough_to_find_boards_of_the_kind(write, fields, platform, source):
    table = recommend("image_classification/imagenet", write("b.yaml", fields))
    assert platform in table.attrs["title"] and table["evidence"].str.contains(f"accuracy measured by {source}").all()


def test_same_arguments_same_answer(m7):
    arguments = dict(weights="accuracy=1,latency=2,memory=1", ranker="fusion")
    pd.testing.assert_frame_equal(recommend(FLOWERS, m7, **arguments), recommend(FLOWERS, m7, **arguments))


def test_variants_of_one_network_share_its_predicted_latency(write):
    board = write("b.yaml", "core_type: cortex-a53\nclock_mhz: 1300\ncores: 4\ndevice_class: sbc\n")
    table = recommend("image_classification/oxford_pets", board)
    assert (table.groupby(["model_id", "input_shape", "precision"])["latency_ms"].nunique() == 1).all() and len(table) > 40


def test_networks_too_large_for_the_ram_come_last_together(write):
    board = write("small.yaml", "core_type: Cortex-M7\nclock_mhz: 400\nram_mib: 0.25\nflash_mib: 0.5\n")
    table = recommend(FLOWERS, board)
    large = table["memory_kib"] > 256
    assert large.any() and not large.all()
    assert table["evidence"].str.startswith("does not fit:").tolist() == large.tolist()
    assert table.loc[large, "rank"].nunique() == 1 and table.loc[large, "rank"].min() > table.loc[~large, "rank"].max()
    assert table.loc[table["storage_kib"] > 512, "evidence"].str.contains("needs external flash").all()


def test_a_board_with_external_memory_keeps_its_large_networks():
    table = recommend("object_detection/coco_person", H747)
    large = table["memory_kib"] > 1024
    assert large.any() and table.loc[large, "evidence"].str.contains("needs external RAM").all()
    assert table.loc[large, "rank"].min() < table.loc[~large, "rank"].max()
    assert not table["evidence"].str.contains("does not fit").any()


def test_a_task_of_ones_own_has_an_order_but_no_accuracy(write):
    task = write("task.yaml", "task_type: image_classification\nclasses: [rose, tulip, daisy]\n")
    table = recommend(task, H747)
    assert table["accuracy"].isna().all() and set(table["accuracy_kind"]) == {"predicted"}
    assert table["evidence"].str.contains("accuracy predicted order only").all() and table["rank"].nunique() > 5
    assert table["pretrain_dataset"].isna().all(), "weights of other tasks are not those of this one"


def test_a_task_described_by_pictures(write, tmp_path):
    from PIL import Image

    for name, colour in (("red", (200, 20, 20)), ("green", (20, 200, 20))):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64), colour).save(tmp_path / "pictures" / name / "one.png")
    table = recommend(write("task.yaml", "task_type: image_classification\nimages: pictures\n"), H747, top=4)
    assert len(table) == 4


# ------------------------------------------------------------------------------------------------ own figures, own candidates

def test_own_measurements_move_the_other_latencies(m7, write):
    before = recommend(FLOWERS, m7).set_index(["model_id", "input_shape"])["latency_ms"]
    mine = [("mobilenet_v1_0.25", "224x224x3"), ("mobilenet_v2_0.35", "128x128x3"), ("squeezenet_1.1", "128x128x3"), ("fd_mobilenet_0.25", "224x224x3")]
    rows = [f"{m},{s},int8,{3 * before[m, s]:.4f},yes" for m, s in mine]
    own = write("own.csv", "model_id,input_shape,precision,latency_ms,note\n" + "\n".join(rows) + "\n")
    table = recommend(FLOWERS, m7, measured=own)
    after = table.set_index(["model_id", "input_shape"])["latency_ms"]
    measured = table["latency_kind"] == "measured"
    assert measured.sum() == 4 and table.loc[measured, "evidence"].str.contains("latency measured by you").all()
    ratio = (after / before).drop(mine)
    assert ratio.between(2, 4).all(), ratio
    assert table.loc[~measured, "evidence"].str.contains("adapted to yours").all()


def test_text_of_benchncnn_says_how_the_board_runs(write):
    head = "loop_count = 8\nnum_threads = 4\npowersave = 0\ngpu_device = -1\ncooling_down = 1\n"
    lines = [f"{name:>20}  min = {t:7.2f}  max = {t + 1:7.2f}  avg = {t + 0.5:7.2f}\n" for name, t in (("squeezenet", 20), ("mobilenet", 30), ("resnet18", 60))]
    board = write("b.yaml", "core_type: cortex-a76\nclock_mhz: 2200\ncores: 8\ndevice_class: sbc\n")
    table = recommend("image_classification/imagenet", board, measured=write("log.txt", head + "".join(lines)))
    assert "cpu, ncnn, 4 threads" in table.attrs["title"]
    assert table.loc[table["model_id"] == "resnet18", "latency_ms"].eq(60.5).all()


def test_candidates_are_looked_up_or_described(write, known):
    mine = write("mine.csv", "model_id,family,params_m,macs_m,input_shape,precision,accuracy\nmobilenet_v2_0.35,,,,128x128x3,,\n"
                             "my_net,mobilenet_v2,1.66,19.1,128x128x3,int8,90\nanother,mobilenet_v1,0.22,41,224x224x3,int8,\n")
    table = recommend(FLOWERS, H747, candidates=mine).set_index("model_id")
    assert len(table) == 3
    true = known.set_index(["model_id", "input_shape"])["latency_ms"]
    assert table.at["mobilenet_v2_0.35", "latency_ms"] == true["mobilenet_v2_0.35", "128x128x3"]
    for twin, name, shape in (("my_net", "mobilenet_v2_0.35", "128x128x3"), ("another", "mobilenet_v1_0.25", "224x224x3")):
        assert 0.5 < table.at[twin, "latency_ms"] / true[name, shape] < 2, "a new network runs about as a known one of its size"
    assert table.at["my_net", "accuracy"] == 90 and "accuracy measured by you" in table.at["my_net", "evidence"]
    assert table.at["another", "accuracy_kind"] == "predicted" and 0 <= table.at["another", "accuracy"] <= 100


def test_counts_alone_are_enough_for_a_candidate(write):
    table = recommend(FLOWERS, "raspberry_pi_5", candidates=write("c.csv", "params_m,macs_m\n0.4,30\n1.4,90\n3.4,300\n"))
    assert sorted(table["model_id"]) == ["candidate_1", "candidate_2", "candidate_3"]
    assert table.set_index("model_id")["latency_ms"].sort_index().is_monotonic_increasing


# ------------------------------------------------------------------------------------------------ neighbours

def _near(figures: list[tuple], clocks: list[float], cores: list[str]) -> Neighbours:
    near = Neighbours.__new__(Neighbours)
    n = len(clocks)
    near.platforms = pd.DataFrame({"device_id": [f"board{i}" for i in range(n)], "processor": "cpu", "runtime": "r", "threads": 1.0,
                                   "power_mode": None, "soc_group": [f"chip{i}" for i in range(n)], "soc": "", "core": cores, "gpu": "",
                                   "npu": "", "device_class": "sbc", "clock_mhz": clocks, "npu_tops": np.nan})
    near.figures = pd.DataFrame(figures, columns=["platform", "model_id", "latency_ms"]).assign(
        input_shape="", precision="fp32", memory_kib=np.nan, storage_kib=np.nan, energy_uj=np.nan, source="s")
    return near


TARGET = {"core_type": "k", "clock_mhz": 400.0, "processor": "cpu", "runtime": "r", "threads": 1.0, "device_class": "sbc"}


def test_time_is_cycles_over_clock():
    near = _near([(0, "a", 40.0), (0, "b", 80.0), (1, "a", 20.0), (1, "c", 200.0)], [100.0, 200.0], ["k", "k"])
    variants = pd.DataFrame({"model_id": ["a", "b", "c", "d"], "input_shape": "", "precision": "fp32"})
    e = near.predict(variants, TARGET)
    np.testing.assert_allclose(e.value, [10, 20, 100, np.nan])  # 4000, 8000 and 40000 kilocycles at 400 MHz
    assert e.boards.tolist() == [2, 1, 1, 0] and e.nearest.tolist() == ["board1", "board0", "board1", ""]


def test_a_variant_that_only_a_slow_board_ran_is_levelled():
    # board1 needs three times the cycles of board0, which has the target's core
    near = _near([(0, "a", 10.0), (0, "b", 20.0), (1, "a", 30.0), (1, "b", 60.0), (1, "c", 90.0)], [400.0, 400.0], ["k", "other"])
    e = near.predict(pd.DataFrame({"model_id": ["c"], "input_shape": "", "precision": "fp32"}), TARGET, sweeps=200)
    np.testing.assert_allclose(e.value, [30], rtol=0.05)


def test_left_out_chips_and_other_processors_are_not_used():
    near = _near([(0, "a", 10.0)], [400.0], ["k"])
    variants = pd.DataFrame({"model_id": ["a"], "input_shape": "", "precision": "fp32"})
    assert np.isnan(near.predict(variants, TARGET, left_out="chip0").value[0])
    assert np.isnan(near.predict(variants, TARGET | {"processor": "gpu"}).value[0])


def test_blending_trusts_close_boards_and_carries_their_move():
    variants = pd.DataFrame({"macs_m": [10.0, 10.0, 10.0], "params_m": 1.0})
    e = Estimate(np.array([8.0, np.nan, 8.0]), np.array([1.0, 0.0, 1e-9]), np.array([1, 0, 1]), np.array(["b", "", "b"]))
    blended = e.blend(np.array([4.0, 5.0, 4.0]), variants)
    assert blended[0] == pytest.approx(8) and blended[2] == pytest.approx(4, rel=1e-4)
    assert 5 < blended[1] < 10, "one without an estimate moves as those of its size did"
    nothing = Estimate(np.full(3, np.nan), np.zeros(3), np.zeros(3), np.full(3, ""))
    np.testing.assert_array_equal(nothing.blend(np.ones(3), variants), np.ones(3))


def test_core_names_agree():
    assert core({"core_type": "Cortex-M7F"}) == core({"core_type": "cortex-m7"}) == "cortex-m7"
    assert core({"core_type": "cortex-a76+cortex-a55"}) == "cortex-a76" and core({}) == ""


# ------------------------------------------------------------------------------------------------ shipped rankers

@pytest.fixture
def copy(tmp_path):
    """The tables under another name, cheaply: links, but models of its own."""
    for name in ("facts", "registry", "tokens"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).symlink_to(paths.DATA / name)
    return tmp_path / "data"


@pytest.mark.parametrize("name", list(shipped.KINDS))
def test_shipped_rankers_load_and_are_of_these_tables(benchmark, name):
    ranker, note = shipped.load(name)
    assert note == "", note
    query = build_queries(benchmark, "mcu")[0]
    found = ranker.predict(query)["latency"] if name == "hardware" else ranker.score(query, {"accuracy": 1})
    assert np.isfinite(found).all() and len(np.unique(found)) > 1
    assert (paths.DATA / "models" / f"{name}.safetensors").stat().st_size < 7e5


def test_a_stale_ranker_is_noticed(copy, m7):
    (copy / "models").mkdir()
    for name in shipped.KINDS:
        (copy / "models" / f"{name}.safetensors").write_bytes((paths.DATA / "models" / f"{name}.safetensors").read_bytes())
    assert shipped.load("task", copy)[1] == ""
    (copy / "tokens").unlink()
    (copy / "tokens").mkdir()
    for file in (paths.DATA / "tokens").glob("*.npz"):
        (copy / "tokens" / file.name).symlink_to(file)
    (copy / "tokens" / "more.npz").write_bytes(b"changed")
    assert "python -m lib train" in shipped.load("task", copy)[1]
    notes = recommend(FLOWERS, m7, ranker="fusion", data=copy).attrs["notes"]
    assert any("fusion.safetensors was trained on other tables" in n for n in notes)


def test_a_missing_ranker_is_named(copy, m7):
    with pytest.raises(ValueError, match="fusion.safetensors is missing: 'python -m lib train' makes it"):
        recommend(FLOWERS, m7, ranker="fusion", data=copy)


def test_training_gives_the_same_files(copy, queries, monkeypatch):
    monkeypatch.setattr(shipped, "training_queries", lambda benchmark: queries[:6])
    monkeypatch.setattr(shipped, "transfer_queries", lambda benchmark: [])
    first = [p.read_bytes() for p in shipped.train(copy, names=["task"], epochs=1, dim=16)]
    assert [p.read_bytes() for p in shipped.train(copy, names=["task"], epochs=1, dim=16)] == first
    assert [p.name for p in (copy / "models").iterdir()] == ["task.safetensors"]


def test_a_platform_lends_few_tasks(queries):
    counts = pd.Series([(q.suite, str(q.platform)) for q in queries]).value_counts()
    assert counts.max() == 6 and len(counts) > 150


def test_held_out_errors_are_those_of_the_neighbours_here(benchmark, queries, monkeypatch):
    monkeypatch.setattr(shipped, "training_queries", lambda benchmark: queries)
    path = paths.RESULTS / shipped.ERRORS
    committed = pd.read_csv(path).query("method == 'neighbours'").reset_index(drop=True)
    again = shipped.held_out(benchmark, trained=False)
    keys = ["device_id", "processor", "runtime"]
    assert committed[keys].equals(again[keys])
    np.testing.assert_allclose(committed["tau"], again["tau"], atol=1e-3)


def test_figures_keep_what_was_measured(benchmark):
    query = build_queries(benchmark, "mcu")[0]
    figures = Figures(query, Path("."))
    figures.values = figures.values * np.nan
    figures.put("latency", np.array([1.0] + [np.nan] * (len(query) - 1)), "measured", "x")
    figures.put("latency", np.full(len(query), 2.0), "predicted", "y")
    assert figures.values["latency_ms"].tolist() == [1.0] + [2.0] * (len(query) - 1)
    assert figures.origin["latency"].tolist() == ["x"] + ["y"] * (len(query) - 1)


def test_a_task_that_no_board_of_the_kind_ran_is_no_crash(write):
    m33 = write("m33.yaml", "core_type: cortex-m33\nclock_mhz: 160\nram_mib: 0.25\nflash_mib: 2\n")
    assert len(recommend("image_classification/food101", m33)) > 3
    flowers = recommend(FLOWERS, m33)  # memory hardly depends on the core: that of other microcontrollers is held against the RAM
    assert flowers["memory_kib"].notna().all() and flowers["evidence"].str.startswith("does not fit").any()


def test_a_network_of_unknown_size_is_left_out_and_named():
    table = recommend("object_detection/coco", "raspberry_pi_5")
    assert "yolor_p6" not in set(table["model_id"])
    assert any("yolor_p6" in note for note in table.attrs["notes"])


def test_an_npu_runs_with_the_fastest_of_its_usual_runtimes():
    figures = pd.DataFrame([{"runtime": r, "model_id": f"m{i}", "input_shape": "8x8x3", "precision": "int8", "device_id": "d", "latency_ms": ms * (1 + i)}
                            for r, ms, n in (("slow", 9.0, 6), ("fast", 2.0, 4), ("rare", 1.0, 2)) for i in range(n)])
    assert offer.fastest(figures, {"slow", "fast", "rare"}) == "fast" and offer.fastest(figures, {"slow", "rare"}) == "slow"
    assert "qnn" in recommend("image_classification/imagenet", "dragonwing_rb3_gen_2_vision_kit").attrs["title"] or \
        "tflite" in recommend("image_classification/imagenet", "dragonwing_rb3_gen_2_vision_kit").attrs["title"]


def test_the_order_of_own_candidates_changes_no_score(write):
    rows = ["mobilenet_v2_0.35,224x224x3,int8,,", "mobilenet_v2_0.35,128x128x3,int8,,", "mobilenet_v1_0.25,224x224x3,int8,,", "mine,224x224x3,int8,0.5,40"]
    head = "model_id,input_shape,precision,params_m,macs_m\n"
    one, two = (recommend(FLOWERS, H747, candidates=write(f"{k}.csv", head + "\n".join(r) + "\n")) for k, r in (("a", rows), ("b", rows[::-1])))
    keys = ["model_id", "input_shape"]
    assert one.set_index(keys)["score"].sort_index().equals(two.set_index(keys)["score"].sort_index())
