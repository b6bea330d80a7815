"""Every rule hits the rows that its source's description names, and nothing else."""
import pandas as pd
import pytest

from lib import paths, quirks, schema


def table(name):
    frames = [schema.read_table(path, schema.schema_of(path), validate=False)
              for path in sorted(paths.FACTS.glob(f"*/{name}.csv")) if path.parent.name != "transfer"]
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def measurements():
    return quirks.add_flags(table("measurements"))


@pytest.fixture(scope="module")
def accuracies():
    return quirks.add_accuracy_flags(table("accuracies"))


@pytest.fixture(scope="module")
def transfer():
    folder = paths.FACTS / "transfer"
    frames = [schema.read_table(folder / f"{name}.csv", schema.TRANSFER, validate=False)
              for name in ("accuracies", "accuracies_more")]
    return quirks.add_accuracy_flags(pd.concat(frames, ignore_index=True))


def count(frame, flag, source=None):
    hit = quirks.has(frame, flag)
    return int(hit.sum() if source is None else (hit & frame["source"].eq(source)).sum())


def test_kinds_keep_figures_of_different_meaning_apart(measurements):
    sources = measurements.groupby("kind")["source"].unique().map(set).to_dict()
    assert sources["pipelined_throughput"] == {"hailo", "rockchip"}
    assert sources["end_to_end_throughput"] == {"vitis"}
    assert sources["end_to_end_latency"] == {"vitis", "ti"}
    assert sources["none"] == {"rockchip"}
    assert not sources["latency"] & {"hailo", "rockchip", "vitis"}
    assert set(measurements["kind"]) == set(quirks.KINDS)
    none = measurements[measurements["kind"].eq("none")]
    assert none["note"].str.contains("real-time factor").all()
    assert none[["latency_ms", "throughput_ips"]].isna().all(axis=None)
    timed = measurements["kind"].isin(["latency", "end_to_end_latency"])
    assert measurements.loc[timed, "latency_ms"].notna().all()
    assert measurements.loc[~timed, "latency_ms"].isna().all()


def test_resubmitted_results_repeat_rows_that_stay(measurements):
    again = measurements[quirks.has(measurements, "resubmitted")]
    same = ["device_id", "model_id", "dataset", "latency_ms", "power_mode"]
    first = measurements[measurements["source"].eq("mlperf_tiny") & ~measurements["excluded"]]
    # Two chips' settings x three benchmarks x three later rounds, each with its original in round v1.0.
    assert len(again) == 2 * 3 * 3
    originals = again[same].drop_duplicates().merge(first[same], on=same)
    assert len(originals) == len(again[same].drop_duplicates()) == 6


def test_mixed_and_fallback_runs(measurements):
    note, qaihub = measurements["note"].fillna(""), measurements["source"].eq("qaihub")
    layers = note.str.extract(r"layers npu=(\d+),gpu=(\d+),cpu=(\d+)").astype(float)
    assert (quirks.has(measurements, "cpu_fallback") == (layers[2] > 0)).all()
    assert layers[qaihub].notna().all(axis=None)
    gpu_int8 = measurements["source"].eq("ncnn") & measurements["processor"].eq("gpu") & measurements["precision"].eq("int8")
    assert (quirks.has(measurements, "int8_fallback_on_gpu") == gpu_int8).all() and gpu_int8.sum() == 256
    assert (quirks.has(measurements, "npu_fp16") <= (qaihub & measurements["precision_name"].eq("float"))).all()
    proxies = measurements[quirks.has(measurements, "proxy_device")]
    assert set(proxies["device_id"]) == {"qcs8550_proxy", "qcs8275_proxy"}


def test_components_share_one_model(measurements):
    parts = measurements[quirks.has(measurements, "component") & measurements["source"].eq("qaihub")]
    assert len(parts) == 1397 and parts["model_id"].nunique() == 26
    assert (parts.groupby("model_id")["note"].agg(lambda n: n.str.extract(r"component=(\w+)")[0].nunique()) > 1).all()


def test_wide_spread_is_computed_and_excluded(measurements):
    wide = measurements["latency_max_ms"] > 5 * measurements["latency_min_ms"]
    assert (quirks.has(measurements, "wide_spread") == wide).all() and wide.sum() == 94
    assert measurements.loc[wide, "excluded"].all()
    assert wide.groupby(measurements["device_id"]).sum().idxmax() == "kunpeng_920_7260"


@pytest.mark.parametrize(("flag", "source", "rows"), [
    ("unaudited", "ncnn", 7741), ("overclocked", "ncnn", 70), ("processor_assumed", "ncnn", 47),
    ("shared_figure", "rockchip", 306), ("sparse_weights", "rockchip", 33), ("sparse_weights", "paddle_lite", 30),
    ("driver_choice", "paddle_lite", 18), ("zero_shot", "hailo", 130), ("performance_mode", "hailo", 34),
    ("component", "hailo", 4), ("whole_board_energy", "mlperf_tiny", 9), ("converter_energy", "mlperf_tiny", 26),
    ("energy_run_differs", "mlperf_tiny", 5), ("from_log", "mlperf_tiny", 14), ("soft_core", "mlperf_tiny", 9),
    ("post_processing", "ti", 14), ("device_assumed", "ti", 14), ("withdrawn", "axera", 19), ("withdrawn", "ncnn", 110),
    ("suspect", "stm32", 12), ("suspect", "nxp", 2), ("suspect_memory", "stm32", 5), ("suspect_storage", "stm32", 3),
    ("not_for_deployment", "stm32", 2), ("older_tools", "stm32", 4),
])
def test_rows_of_a_flag(measurements, flag, source, rows):
    assert count(measurements, flag, source) == rows


def test_suspect_latencies_are_those_named_by_the_source(measurements):
    suspect = measurements[quirks.has(measurements, "suspect") & measurements["source"].eq("stm32")]
    ign = suspect[suspect["model_id"].str.startswith("ign")]
    assert (ign["latency_ms"] == ign["ram_kib"]).all() and len(ign) == 4
    rate = suspect[suspect["note"].str.contains("disagree")]
    assert ((1000 / rate["throughput_ips"] / rate["latency_ms"] - 1).abs() > 0.03).all() and len(rate) == 2
    assert "yolov8n" in set(suspect["model_id"])


def test_unusable_figures_are_emptied_and_the_rest_stands(measurements):
    clean = quirks.without_unusable(measurements)
    memory = quirks.has(clean, "suspect_memory")
    assert clean.loc[memory, quirks.UNUSABLE["memory"]].isna().all(axis=None)
    assert measurements.loc[memory, "ram_internal_kib"].notna().any()
    board = quirks.has(clean, "whole_board_energy")
    assert clean.loc[board, "energy_uj"].isna().all() and clean.loc[board, "latency_ms"].notna().all()
    others = ~(memory | board | quirks.has(clean, "suspect_storage"))
    pd.testing.assert_frame_equal(clean[others], measurements[others])


@pytest.mark.parametrize(("flag", "source", "rows"), [
    ("partial_test_set", "qaihub", 592), ("partial_test_set", "stm32", 15), ("resubmitted", "mlperf_tiny", 18),
    ("quoted", "ti", 225), ("different_network", "nxp", 2), ("zero_shot", "hailo", 130), ("suspect", "ti", 4),
    ("suspect", "stm32", 1), ("suspect", "qaihub", 24), ("not_for_deployment", "stm32", 4),
])
def test_accuracies_of_a_flag(accuracies, flag, source, rows):
    assert count(accuracies, flag, source) == rows


def test_emulated_and_quoted_accuracies(accuracies):
    ti = accuracies[accuracies["source"].eq("ti")]
    emulated = quirks.has(ti, "emulated_accuracy")
    assert not (emulated & quirks.has(ti, "quoted")).any()
    # Every 8-bit figure that the reports give for a chip is emulated; only the technical report ran on one.
    reports = ti["source_ref"].str.contains("report_|accuracy_report")
    assert emulated[reports & ti["device_id"].notna()].all()
    assert not emulated[~reports].any()
    assert (accuracies.loc[quirks.has(accuracies, "suspect") & accuracies["source"].eq("qaihub"), "metric"]
            .isin(["masked_lm_top1", "wer"]).all())


def test_the_two_lists_of_images_never_meet(accuracies):
    first, second = quirks.has(accuracies, "first_list"), quirks.has(accuracies, "second_list")
    assert first.sum() == 18 and second.sum() == 64 and not (first & second).any()
    assert accuracies.loc[first | second, "dataset"].eq("cifar10").all()


def test_transfer_accuracies(transfer):
    seen = transfer[quirks.has(transfer, "seen_target")]
    assert (seen["pretrain_dataset"] == seen["target_dataset"]).all() and len(seen) == 44
    food = transfer["source"].eq("transfergraph") & transfer["target_dataset"].eq("food101")
    assert (transfer.loc[food, "value"] < 1).sum() == 110 and food.sum() == 112 and transfer.loc[food, "excluded"].all()
    assert count(transfer, "quoted", "tllib") == 80 and count(transfer, "toy_model") == 24
    assert set(transfer.loc[quirks.has(transfer, "unused_by_source"), "source"]) == {"parc"}
    assert not transfer.loc[quirks.has(transfer, "chance_level") & ~food, "excluded"].all()


def test_every_rule_hits_something_and_every_flag_is_in_the_vocabulary(measurements, accuracies, transfer):
    for name, frames in (("measurements", [measurements]), ("accuracies", [accuracies, transfer])):
        used = set("|".join(f for frame in frames for f in frame["flags"].unique()).split("|")) - {""}
        assert used == set(quirks.meanings(name))
        for rule in quirks.rules(name).query("pattern != ''").itertuples():
            sources = frames if rule.source == "*" else [f[f["source"].eq(rule.source)] for f in frames]
            assert any(quirks.has(f, rule.flag).any() for f in sources), rule


def test_tables_are_not_changed_and_empty_ones_work(measurements):
    plain = measurements.drop(columns=["kind", "flags", "excluded"])
    before = plain.copy()
    again = quirks.add_flags(plain)
    pd.testing.assert_frame_equal(plain, before)
    pd.testing.assert_frame_equal(again, measurements)
    empty = quirks.without_unusable(quirks.add_flags(plain.iloc[:0]))
    assert list(empty.columns) == list(measurements.columns)
    own = plain.iloc[:5].assign(source="my_own_board", note=None)
    assert quirks.add_flags(own)["flags"].eq("").all()
