"""Readers of upstream formats, on small samples written for these tests; boards of one's own."""
from __future__ import annotations

import os
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from lib import paths
from lib.benchmark import load_benchmark
from lib.schema import DEVICES, DataError, read_table
from lib.sources import (
    LIMIT_MIB, Reading, benchncnn, hailo, mlperf_tiny, own_board, own_csv, qaihub, read_text, slug, stm32,
)

BENCHNCNN = """\
pi@board:~/ncnn $ ./benchncnn 8 2 0 -1 1
loop_count = 8
num_threads = 2
powersave = 0
gpu_device = -1
cooling_down = 1
          squeezenet  min =   31.05  max =   33.71  avg =   31.90
      mobilenet_int8  min =   40.11  max =   41.02  avg =   40.50
            resnet18  min =  101.00  max =  120.25  avg =  104.75
"""
GPU = """\
[0 Tiny GPU 3]  queueC=0[1]  queueT=0[1]
[0 Tiny GPU 3]  fp16-p/s/u/a=1/1/1/0  int8-p/s/u/a=1/1/1/0
loop_count = 4
num_threads = 1
powersave = 2
gpu_device = 0
cooling_down = 0
            resnet18  min =   20.00  max =   20.50  avg =   20.25
       resnet18_int8  min =   90.00  max =   95.50  avg =   91.25
"""
STM32 = """\
# MobileNet v2
### Reference **MCU** memory footprint based on Flowers dataset
| Model | Dataset | Format | Resolution | Series | Activation RAM | Runtime RAM | Total RAM | Total Flash | STEdgeAI Core version |
|-------|---------|--------|------------|--------|----------------|-------------|-----------|-------------|-----------------------|
| [MobileNet v2 0.35 fft](./a/m_int8.tflite) | Flowers | Int8 | 96x96x3 | STM32H7 | 130.5 KiB | 4 KiB | 134.5 KiB KiB | 470 KiB | 9.1.0 |
### Reference **MCU** inference time based on Flowers dataset
| Model | Dataset | Format | Resolution | Board | Execution Engine | Frequency | Inference time (ms) | STEdgeAI Core version |
|---|---|---|---|---|---|---|---|---|
| [MobileNet v2 0.35 fft](./a/m_int8.tflite) | Flowers | Int8 | 96x96x3 | STM32H747I-DISCO | 1 CPU | 400 MHz | 55.25 ms | 9.1.0 |
### Reference **MPU** inference time based on Flowers dataset
| Model | Dataset | Format | Resolution | Quantization | Board | Execution Engine | Frequency | Inference time (ms) | %NPU | %GPU | %CPU | X-LINUX-AI version | Framework |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
| [MobileNet v2 0.35 fft](./a/m_int8.tflite) | Flowers | Int8 | 96x96x3 | per-channel ** | STM32MP257F-DK2 | NPU/GPU | 800 MHz | 5.5 ms | 10 | 90 | 0 | v9 | OpenVX |
| [MobileNet v2 0.35 fft](./a/m_int8.tflite) | Flowers | Int8 | 96x96x3 | per-channel | STM32MP157F-DK2 | 2 CPU | 800 MHz | 12 ms | NA | NA | 100 | v9 | TensorFlowLite 2.18.0 |
### Accuracy with Flowers dataset
| Model | Format | Resolution | Top 1 Accuracy |
|---|---|---|---|
| [MobileNet v2 0.35 fft](./a/m.h5) | Float | 96x96x3 | 90.25 % |
| [MobileNet v2 0.35 tl](./a/m_int8.tflite) | Int8 | 96x96x3 | 89.5 % |
# References
| anything | else |
"""
PERF = """\
precisions:
  float:
    components:
      MobileNet-v2:
        performance_metrics:
          Samsung Galaxy S24:
            tflite:
              job_status: Passed
              inference_time_milliseconds: 0.625
              estimated_peak_memory_range_mb:
                min: 1
                max: 150
              primary_compute_unit: NPU
              layer_counts:
                total: 70
                npu: 70
              tool_versions:
                qairt: 9.9.9
            onnx:
              job_status: Failed
          Snapdragon X Elite CRD:
            qnn_dlc:
              job_status: Passed
              inference_time_milliseconds: 1.25
              estimated_peak_memory_range_mb:
                min: 0
                max: 0
              primary_compute_unit: CPU
              layer_counts:
                total: 70
                cpu: 70
              tool_versions:
                qairt: 9.9.9
"""
NUMERICS = """\
metrics:
- dataset_name: imagenet
  dataset_split_description: validation split
  metric_name: Classification Accuracy
  metric_unit: '%'
  num_partial_samples: 500
  partial_torch_metric: 71.5
  device_metric:
    Samsung Galaxy S25:
      w8a16:
        qnn_dlc:
          partial_metric: 70.25
      float:
        tflite:
          partial_metric: 71.25
"""
HAILO = """\
* All models were compiled using Hailo Dataflow Compiler v9.1.0

COCO
^^^^

.. list-table::
   :widths: 31 9 7
   :header-rows: 1

   * - Network Name
     - float mAP
     - Hardware mAP
     - FPS (Batch Size=1)
     - FPS (Batch Size=8)
     - Input Resolution (HxWxC)
     - Links
   * - tiny_yolov4 |rocket|
     - 19.25
     - 18.5
     - 1000
     - 0
     - 416x416x3
     - `S <x>`_
   * - yolov5s
     - 37.5
     -
     - 100.5
     - 200
     - 640x640x3
     - `S <x>`_
"""
RUN = {
    "performance": "1.0 runner: Runtime : 10 sec.\n1.1 runner: Median throughput is        8.000 inf./sec.\n",
    "energy": "1.0 runner: Median energy cost is 2500.5 uJ/inf.\n1.1 runner: Median throughput is 7 inf./sec.\n",
    "accuracy": "1.0 runner: Top-1: 86.5%\n1.1 runner: AUC: 0.98\n",
}
CSV = """\
model_id,input_shape,precision,latency_ms,memory_kib,accuracy,dataset,threads,runtime
resnet18,224x224x3,fp32,100.5,,69.75,imagenet,1,ncnn
resnet18,224x224x3,fp32,30.25,,69.75,imagenet,4,ncnn
mobilenet_v2_1.0,224x224x3,int8,12.125,900,,,1,
"""


def _csv(text, file, folder="/tmp"):
    """Read a text through the reader of files."""
    path = os.path.join(folder, f"own_{os.getpid()}.csv")
    with open(path, "w", encoding="utf-8", newline="", errors="surrogatepass") as out:
        out.write(text)
    try:
        return own_csv.read(path, {"resnet18": "image_classification"}, device_id="my_board")
    finally:
        os.unlink(path)


def _mlperf(text, file, run="performance"):
    return mlperf_tiny.read(RUN | {run: text}, file, "ic", device_id="my_board", processor="mcu")


READERS = {
    "benchncnn": (BENCHNCNN + GPU, lambda t, f: benchncnn.read(t, f, device_id="my_board")),
    "stm32": (STM32, stm32.read),
    "perf": (PERF, qaihub.read_perf),
    "numerics": (NUMERICS, lambda t, f: qaihub.read_numerics(t, f, "MobileNet-v2")),
    "hailo": (HAILO, lambda t, f: hailo.read(t, "HAILO8_object_detection.rst")),
    "performance": (RUN["performance"], _mlperf),
    "energy": (RUN["energy"], lambda t, f: _mlperf(t, f, "energy")),
    "accuracy": (RUN["accuracy"], lambda t, f: _mlperf(t, f, "accuracy")),
    "csv": (CSV, _csv),
}


def figures(reading: Reading) -> list[set[tuple]]:
    """Per table, what identifies a row with its figures."""
    names = ["model_name", "device_id", "precision", "runtime", "threads", "batch_size", "training"]
    return [set(map(tuple, table.reindex(columns=names + list(table.select_dtypes("number"))).astype(str)
                    .itertuples(index=False))) for table in reading]


# ---------------------------------------------------------------------------------------- every reader


@pytest.mark.parametrize("name", READERS)
def test_a_cut_text_never_yields_another_figure(name):
    text, read = READERS[name]
    whole, refused = figures(read(text, name)), 0
    ends = [i for i in range(1, len(text)) if text[i - 1] in "0123456789.|\n%"][::2]
    for end in ends:
        try:
            part = figures(read(text[:end], name))
        except DataError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            # A footprint that stands in the text before its time is whole, and so is every row already read.
            assert all(some <= every for some, every in zip(part, whole)), text[:end][-80:]
    assert refused > len(ends) / 4


@pytest.mark.parametrize("name", READERS)
def test_damage_is_refused_or_harmless(name):
    text, read = READERS[name]

    @settings(max_examples=25, deadline=None, database=None)
    @given(st.integers(0, len(text) - 1), st.sampled_from(list("0-.|:,\n\t \"'[]{}&*#=x%é\u2028")))
    def damaged(place, character):
        try:
            reading = read(text[:place] + character + text[place + 1:], name)
        except DataError as error:
            assert "\n" not in str(error) and re.match(r"\S+?(:\d+)?: ", str(error))
        else:
            assert (reading.measurements["latency_ms"].dropna() > 0).all()

    damaged()


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("noise", ["a", "key: value\n", "[1, 2]\n", "| a | b |\n" * 3, "x,y\n1,2\n", "<html>\n"])
def test_other_texts_are_refused(name, noise):
    with pytest.raises(DataError):
        READERS[name][1](noise, name)


@pytest.mark.parametrize("content, message", [
    (b"", "empty"), (b" \n\n", "empty"), (b"loop_count\0", "not a text"), (b"\xff\xd8\xff\xe0", "not a text"),
    (bytes(range(256)), "not a text"), (b"\x89PNG\r\n\x1a\n", "not a text"),
    (b"x" * (LIMIT_MIB * 2**20 + 1), "larger")])
def test_files_that_hold_no_text(tmp_path, content, message):
    path = tmp_path / "log.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_text(path)


def test_files_that_are_not_there(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_text(path)


def test_consoles_that_write_utf16(tmp_path):
    (tmp_path / "log.txt").write_text(BENCHNCNN, encoding="utf-16")
    assert len(benchncnn.read(read_text(tmp_path / "log.txt"), "log.txt", device_id="x").measurements) == 3


def test_slugs():
    names = {"Dragonwing IQ-9075 EVK": "dragonwing_iq_9075_evk", "QCS8275 (Proxy)": "qcs8275_proxy",
             "yolo-fastest-1.1": "yolo_fastest_1.1", "v2. x": "v2_x"}
    assert {name: slug(name) for name in names} == names


# ------------------------------------------------------------------------------------------- benchncnn


def test_benchncnn():
    table = benchncnn.read(BENCHNCNN, "log.txt", device_id="my_board", device_name="Mine").measurements
    row = table.iloc[1]
    assert (row["model_id"], row["precision"], row["input_shape"]) == ("mobilenet_v1_1.0", "int8", "224x224x3")
    assert (row["latency_ms"], row["latency_min_ms"], row["latency_max_ms"]) == (40.5, 40.11, 41.02)
    assert (row["threads"], row["power_mode"]) == (2, "powersave=0 (all cores)")
    assert (row["processor"], row["runtime"], row["device_id"]) == ("cpu", "ncnn", "my_board")
    assert table.iloc[0]["task_type"] == "image_classification" and table["latency_stat"].eq("mean").all()


def test_benchncnn_gpu_formats():
    table = benchncnn.read(GPU, "log.txt", device_id="x").measurements
    assert table["precision"].tolist() == ["mixed", "int8"] and table["processor"].eq("gpu").all()
    assert "int8 layers run on the CPU" in table["note"][1]
    for printed, precision in (("1/1/1/1", "fp16"), ("0/0/0/0", "fp32")):
        other = benchncnn.read(GPU.replace("u/a=1/1/1/0  ", f"u/a={printed}  "), "log.txt", device_id="x")
        assert other.measurements["precision"][0] == precision
    older = GPU.replace("fp16-p/s/u/a=1/1/1/0", "fp16p=1  fp16s=0  fp16a=1")
    assert benchncnn.read(older, "log.txt", device_id="x").measurements["precision"][0] == "fp16"


@pytest.mark.parametrize("old, new, message", [
    ("avg =   31.90", "avg =   34.90", "log.txt:7: column 'latency_ms': value '34.9'.*between latency_min_ms"),
    ("min =   31.05", "min =   34.05", "log.txt:7: .*between"),
    ("min =   31.05  max =   33.71  avg =   31.90", "min = 0.00  max = 0.00  avg = 0.00", "log.txt:7: .*> 0"),
    ("avg =   40.50", "avg =  -40.50", "log.txt:8: .*> 0"),
    ("avg =   40.50", "avg =   40.50 s", "log.txt:8: .*no .whole. line of benchncnn.*milliseconds"),
    ("avg =   40.50", "avg =   40.5", "log.txt:8: .*no .whole. line"),
    ("avg =   40.50", "", "log.txt:8: .*no .whole. line"),
    ("            resnet18", "          squeezenet", "log.txt:9: squeezenet repeats line 7"),
    ("cooling_down", "cooling", "log.txt:6: setting 'cooling = 1' is unknown"),
    ("powersave = 0", "powersave = 7", "log.txt:4: setting 'powersave = 7' is unknown"),
    ("num_threads = 2\n", "", "log.txt:6: .*must precede"),
    ("num_threads = 2", "num_threads = 0", "log.txt:7: column 'threads'"),
    ("gpu_device = -1\n", "Segmentation fault\n", "log.txt:5: 'Segmentation fault' is no"),
])
def test_benchncnn_refuses(old, new, message):
    assert old in BENCHNCNN
    with pytest.raises(DataError, match=message):
        benchncnn.read(BENCHNCNN.replace(old, new), "log.txt", device_id="x")


def test_benchncnn_without_results():
    with pytest.raises(DataError, match="log.txt:14: no result follows"):
        benchncnn.read(BENCHNCNN + "".join(GPU.splitlines(True)[:7]).replace("gpu_device = 0\ncooling_down = 0\n", ""),
                       "log.txt", device_id="x")


# ----------------------------------------------------------------------------------------------- stm32


def test_stm32():
    measured, accuracies = stm32.read(STM32, "image_classification/m/README.md", date="2030-01-02")
    mcu, npu, mpu = (row for _, row in measured.iterrows())
    assert (mcu["model_id"], mcu["device_id"], mcu["dataset"]) == ("mobilenet_v2_0.35", "stm32h747i_disco", "flowers")
    assert (mcu["latency_ms"], mcu["clock_mhz"], mcu["threads"]) == (55.25, 400, 1)
    assert (mcu["ram_kib"], mcu["ram_activation_kib"], mcu["flash_kib"]) == (134.5, 130.5, 470)
    assert (mcu["processor"], mcu["runtime"], mcu["runtime_version"]) == ("mcu", "stedgeai", "STEdgeAI Core 9.1.0")
    assert (npu["processor"], npu["runtime"], mpu["processor"], mpu["runtime"]) == ("mixed", "openvx", "cpu", "tflite")
    assert np.isnan(mpu["ram_kib"]) and mpu["threads"] == 2 and "per-channel" in mpu["note"]
    assert accuracies[["precision", "training", "value"]].values.tolist() == [
        ["fp32", "finetuned", 90.25], ["int8", "linear_probe", 89.5]]
    assert accuracies["dataset"].eq("flowers").all() and accuracies["metric"].eq("top1").all()


@pytest.mark.parametrize("old, new, message", [
    ("Inference time (ms)", "Inference time (us)", "README.md:7: column 'Inference time .us.': the unit must be ms"),
    ("Inference time (ms)", "Inference time", "README.md:7: .*the unit must be ms"),
    ("55.25 ms", "55.25 s", "README.md:9: latency_ms: '55.25 s' is not a number in ms"),
    ("55.25 ms", "0 ms", "README.md:9: column 'latency_ms'.*> 0"),
    ("130.5 KiB", "130.5 MiB", "README.md:9: ram_activation_kib: '130.5 MiB' is not a number in KiB"),
    ("Runtime RAM", "Runtime RAM (MiB)", "README.md:3: .*the unit must be KiB"),
    ("Top 1 Accuracy", "Top 1 Error", "README.md:16: column 'Top 1 Error' is unknown"),
    ("90.25 %", "190.25 %", "README.md:18: column 'value'.*between 0 and 100"),
    ("| Int8 | 96x96x3 | STM32H747I-DISCO", "| Int3 | 96x96x3 | STM32H747I-DISCO", "README.md:9: precision 'Int3'"),
    ("| 400 MHz ", "", "README.md:9: the row is cut: it has 8 cells, the header 9"),
    ("| Execution Engine | Frequency | Inference time (ms) | STE", "| Frequency | Inference time (ms) | STE",
     "README.md:7: no column for 'engine'"),
    ("0.35 tl](./a/m_int8.tflite) | Int8", "0.35 fft](./a/m.h5) | Float", "README.md:19: .*repeats line 18"),
])
def test_stm32_refuses(old, new, message):
    assert old in STM32
    with pytest.raises(DataError, match=message):
        stm32.read(STM32.replace(old, new, 1), "README.md")


# ---------------------------------------------------------------------------------------------- qaihub


def test_qaihub_perf():
    table = qaihub.read_perf(PERF, "models/mobilenet_v2/perf.yaml", date="2030-01-02").measurements
    assert table["device_id"].tolist() == ["samsung_galaxy_s24", "snapdragon_x_elite_crd"]
    assert table["latency_ms"].tolist() == [0.625, 1.25] and table["ram_kib"].fillna(-1).tolist() == [150 * 1024, -1]
    assert table["runtime"].tolist() == ["tflite", "qnn"] and table["processor"].tolist() == ["npu", "cpu"]
    assert table["model_id"].eq("mobilenet_v2_1.0").all() and table["precision"].eq("fp32").all()
    assert "fp16 on NPU" in table["note"][0] and "component" not in table["note"][0]


def test_qaihub_components():
    part = PERF.split("    components:\n")[1]
    table = qaihub.read_perf(PERF + part.replace("MobileNet-v2", "Decoder"), "models/two_parts/perf.yaml").measurements
    assert table["model_name"].eq("two_parts").all() and len(table) == 4
    assert table["note"].str.contains("component=").all()


def test_qaihub_numerics():
    table = qaihub.read_numerics(NUMERICS, "numerics.yaml", "MobileNet-v2").accuracies
    assert table["precision"].tolist() == ["fp32", "w8a16", "fp32"] and table["value"].tolist() == [71.5, 70.25, 71.25]
    assert table["device_id"].fillna("").tolist() == ["", "samsung_galaxy_s25", "samsung_galaxy_s25"]
    assert "runtime=qnn (qnn_dlc)" in table["note"][1] and "500 samples" in table["note"][0]


@pytest.mark.parametrize("old, new, message", [
    ("inference_time_milliseconds: 0.625", "inference_time_microseconds: 625", "perf.yaml:8: 'inference_time_milli"),
    ("inference_time_milliseconds: 0.625", "inference_time_milliseconds: -1", "perf.yaml:8: column 'latency_ms'"),
    ("inference_time_milliseconds: 0.625", "inference_time_milliseconds: 1e999", "perf.yaml:8: "),
    ("inference_time_milliseconds: 0.625", "inference_time_milliseconds: true", "perf.yaml:8: "),
    ("min: 1\n", "min: 200\n", "perf.yaml:11: peak memory from 200 to 150"),
    ("tflite:", "tflight:", "perf.yaml:8: runtime 'tflight' is unknown"),
    ("          Snapdragon X Elite CRD:", "          Samsung Galaxy S24:", "perf.yaml:21: .*given twice"),
    ("job_status: Passed", "job_status: &a Passed\n              x: *a", "references are not allowed"),
    ("  float:", "  w9:", "perf.yaml:8: precision 'w9' is unknown"),
    ("qairt: 9.9.9", "qairt: [", "not .whole. YAML"),
    ("precisions:", "models:", "perf.yaml:1: 'precisions' is missing"),
])
def test_qaihub_refuses(old, new, message):
    assert old in PERF
    with pytest.raises(DataError, match=message):
        qaihub.read_perf(PERF.replace(old, new, 1), "perf.yaml")


def test_yaml_that_is_deep_or_long_is_refused():
    for text in ("[" * 5000, "a: " + "9" * 5000, "? [a]\n: b\n", "- a\n", "a"):
        with pytest.raises(DataError, match="perf.yaml:1: "):
            qaihub.read_perf(text, "perf.yaml")


# ----------------------------------------------------------------------------------------------- hailo


def test_hailo():
    measured, accuracies = hailo.read(HAILO, "docs/HAILO15H_object_detection.rst", "2030-01-02")
    assert measured[["model_name", "batch_size", "throughput_ips"]].values.tolist() == [
        ["tiny_yolov4", 1, 1000], ["yolov5s", 1, 100.5], ["yolov5s", 8, 200]]
    assert measured["latency_ms"].isna().all() and measured["device_id"].eq("hailo_15h").all()
    assert measured["runtime_version"].eq("DFC v9.1.0").all()
    assert accuracies[["model_name", "precision", "value"]].values.tolist() == [
        ["tiny_yolov4", "fp32", 19.25], ["tiny_yolov4", "int8", 18.5], ["yolov5s", "fp32", 37.5]]
    assert accuracies["metric"].eq("map50_95").all() and accuracies["dataset"].eq("coco").all()


@pytest.mark.parametrize("old, new, message", [
    ("     - 1000\n", "", "HAILO8_object_detection.rst:17: the row is cut: it has 6 cells, the header 7"),
    ("- 1000", "- -5", "HAILO8_object_detection.rst:17: column 'throughput_ips'"),
    ("- 1000", "- 1000 ms", "HAILO8_object_detection.rst:17: FPS at batch 1: '1000 ms' is not a number"),
    ("- 19.25", "- 1925", "HAILO8_object_detection.rst:17: column 'value'"),
    ("FPS (Batch Size=1)", "Latency (us)", "HAILO8_object_detection.rst:10: column 'Latency .us.' is unknown"),
    ("yolov5s", "tiny_yolov4", "HAILO8_object_detection.rst:24: tiny_yolov4 repeats"),
    ("Network Name", "Source", "HAILO8_object_detection.rst:10: no column for 'name'"),
])
def test_hailo_refuses(old, new, message):
    text = HAILO.replace("416x416x3", "640x640x3")
    assert old in text
    with pytest.raises(DataError, match=message):
        hailo.read(text.replace(old, new, 1), "HAILO8_object_detection.rst")


def test_hailo_names_the_device_in_the_file():
    with pytest.raises(DataError, match="tables.rst: the name must be"):
        hailo.read(HAILO, "tables.rst")


# ----------------------------------------------------------------------------------------- mlperf_tiny


def test_mlperf_tiny():
    measured, accuracies = mlperf_tiny.read(RUN, "closed/x/results/b/ic", "ic", device_id="b", processor="mcu")
    row = measured.iloc[0]
    assert (row["latency_ms"], row["throughput_ips"], row["energy_uj"], row["model_id"]) == (125, 8, 2500.5, "resnet8")
    assert accuracies[["metric", "value", "unit"]].values.tolist() == [["top1", 86.5, "%"]]
    other = mlperf_tiny.read({"accuracy": RUN["accuracy"]}, "ad", "ad").accuracies
    assert other[["metric", "value", "unit"]].values.tolist() == [["auc", 0.98, "fraction"]]


def test_mlperf_tiny_folder(tmp_path):
    for benchmark, run in (("ic", "performance"), ("ic", "accuracy"), ("kws", "performance")):
        (tmp_path / "My Board" / benchmark / run).mkdir(parents=True)
        (tmp_path / "My Board" / benchmark / run / "results.txt").write_text(RUN[run])
    readings = mlperf_tiny.read_folder(tmp_path / "My Board", processor="mcu")
    assert [r.measurements["model_id"][0] for r in readings] == ["resnet8", "ds_cnn"]
    assert readings[0].measurements["device_id"][0] == "my_board"
    with pytest.raises(DataError, match="none of the folders"):
        mlperf_tiny.read_folder(tmp_path)


@pytest.mark.parametrize("run, old, new, message", [
    ("performance", "8.000 inf./sec.", "8.000 inf./min.", "ic/performance/results.txt:2: "),
    ("performance", "8.000", "0.000", "ic/performance/results.txt:2: .*no number above 0"),
    ("performance", "Median", "Mean", "ic/performance/results.txt:2: .*is missing"),
    ("energy", "uJ/inf.", "mJ/inf.", "ic/energy/results.txt:1: "),
    ("energy", "2500.5", "-2500.5", "ic/energy/results.txt:1: "),
    ("accuracy", "86.5%", "0.865", "ic/accuracy/results.txt:1: "),
    ("accuracy", "86.5%", "865%", "column 'value'"),
])
def test_mlperf_tiny_refuses(run, old, new, message):
    assert old in RUN[run]
    with pytest.raises(DataError, match=message):
        _mlperf(RUN[run].replace(old, new), "ic", run)


def test_mlperf_tiny_run_twice():
    twice = RUN["performance"] * 2
    assert len(_mlperf(twice, "ic").measurements) == 1
    with pytest.raises(DataError, match="results.txt:4: .*differs from an earlier line"):
        _mlperf(RUN["performance"] + RUN["performance"].replace("8.0", "9.0"), "ic")


# --------------------------------------------------------------------------------------------- own csv


def test_own_csv():
    measured, accuracies = _csv(CSV, "own.csv")
    assert measured["latency_ms"].tolist() == [100.5, 30.25, 12.125] and measured["ram_kib"][2] == 900
    assert measured["task_type"].tolist() == ["image_classification"] * 2 + ["other"]
    assert accuracies[["model_id", "value", "dataset"]].values.tolist() == [["resnet18", 69.75, "imagenet"]]


@pytest.mark.parametrize("old, new, message", [
    ("latency_ms", "latency_us", ":1: column 'latency_us' is unknown"),
    ("threads", "weather", ":1: column 'weather' is unknown in a table of measurements: allowed: model_id, input_shape, precision"),
    ("latency_ms", "latency_s", ":1: column 'latency_s' is unknown"),
    ("precision,", "", ":1: column 'precision' is missing"),
    (",runtime", ",threads", ":1: column names must differ"),
    ("100.5", "100.5 us", ":2: column 'latency_ms': value '100.5 us'"),
    ("100.5", "", ":2: column 'latency_ms'.*must not be empty"),
    ("100.5", "0", ":2: column 'latency_ms'.*> 0"),
    ("30.25", "-3", ":3: column 'latency_ms'.*> 0"),
    (",fp32,30.25", ",float,30.25", ":3: column 'precision'"),
    (",4,ncnn", ",1,ncnn", ":3: resnet18 repeats line 2 with the same settings"),
    (",4,ncnn", ",4", ":3: the row has 8 cells, the header 9"),
    (",69.75,imagenet,4", ",69.75,,4", ":3: column 'accuracy'.*needs the 'dataset'"),
    ("900,,,1", "900,169.75,imagenet,1", ":4: column 'value'.*between 0 and 100"),
    (",69.75,imagenet,4", ",70.75,imagenet,4", ":3: resnet18 repeats line 2"),
    ("900", "nine", ":4: column 'memory_kib'"),
    (",,,1,\n", ",,,1,", "has no line break"),
])
def test_own_csv_refuses(old, new, message):
    assert old in CSV
    with pytest.raises(DataError, match=message):
        _csv(CSV.replace(old, new, 1), "own.csv")


def test_own_csv_without_rows():
    with pytest.raises(DataError, match="no row follows"):
        _csv(CSV.splitlines(True)[0], "own.csv")


# ------------------------------------------------------------------------------------------ own boards

BOARD = """\
device_id: my_board_1
device_name: My Board
soc: RK3588
device_class: sbc
isa: armv8-a
cores: 8
clock_mhz: 2400
ram_mib: 8192
l1_kib: 64+64
"""


@pytest.fixture
def own(tmp_path):
    """A board, its log, and a small copy of the tables."""
    data = tmp_path / "data"
    (data / "registry").mkdir(parents=True)
    for name in ("models.csv", "devices.csv"):
        (data / "registry" / name).write_bytes((paths.DATA / "registry" / name).read_bytes())
    (tmp_path / "board.yaml").write_text(BOARD)
    (tmp_path / "log.txt").write_text(BENCHNCNN)
    return tmp_path / "board.yaml", tmp_path / "log.txt", data


def _tables(data):
    return {path.name if "facts" in str(path) else f"registry/{path.name}": path.read_text()
            for path in sorted(data.rglob("*")) if path.is_file()}


def test_adding_a_board(own):
    board, log, data = own
    before = pd.read_csv(data / "registry" / "devices.csv", dtype=str, keep_default_na=False)
    reading = own_board.add_device(board, log, data)
    after = pd.read_csv(data / "registry" / "devices.csv", dtype=str, keep_default_na=False)
    assert after.iloc[:-1].equals(before)  # what was published stays as it was
    row = after.iloc[-1]
    assert (row["device_id"], row["cores"], row["l1_kib"]) == ("my_board_1", "8", "64+64")
    assert row["soc_group"] == before.loc[before["soc"].eq("RK3588"), "soc_group"].iloc[0]
    assert "cores=published:own" in row["provenance"].split(";")
    assert set(_tables(data)) == {"registry/models.csv", "registry/devices.csv", "devices.csv", "accuracies.csv",
                                  "measurements.csv"}
    stored = pd.read_csv(data / "facts" / "own" / "measurements.csv")
    assert stored["latency_ms"].tolist() == reading.measurements["latency_ms"].tolist() == [31.9, 40.5, 104.75]
    assert stored["device_id"].eq("my_board_1").all() and stored["source"].eq("own").all()
    read_table(data / "facts" / "own" / "devices.csv", DEVICES)


def test_adding_again_replaces_what_was_measured_again(own):
    board, log, data = own
    own_board.add_device(board, log, data)
    first = _tables(data)
    own_board.add_device(board, log, data)
    assert _tables(data) == first
    log.write_text(BENCHNCNN.replace("avg =   31.90", "avg =   31.50"))
    board.write_text(BOARD.replace("8192", "4096"))
    own_board.add_device(board, log, data)
    log.write_text(BENCHNCNN.replace("num_threads = 2", "num_threads = 4"))
    own_board.add_device(board, log, data)
    stored = pd.read_csv(data / "facts" / "own" / "measurements.csv")
    assert len(stored) == 6 and sorted(stored.loc[stored["model_name"].eq("squeezenet"), "latency_ms"]) == [31.5, 31.9]
    devices = pd.read_csv(data / "registry" / "devices.csv").query("device_id == 'my_board_1'")
    assert devices["ram_mib"].tolist() == [4096]


def test_adding_a_table_with_accuracies(own):
    board, log, data = own
    log.write_text(CSV)
    board.write_text(BOARD.replace("sbc", "mcu"))
    own_board.add_device(board, log, data)
    stored = pd.read_csv(data / "facts" / "own" / "measurements.csv")
    assert stored["processor"].eq("mcu").all() and stored["task_type"].eq("image_classification").all()
    assert pd.read_csv(data / "facts" / "own" / "accuracies.csv")["value"].tolist() == [69.75]


@pytest.mark.parametrize("old, new, message", [
    ("device_id: my_board_1\n", "", "board.yaml:1: field 'device_id' is missing"),
    ("my_board_1", "raspberry_pi_5", "is a published board"),
    ("my_board_1", "My Board!", "board.yaml:1: column 'device_id'"),
    ("cores: 8", "corse: 8", "board.yaml:6: field 'corse' is unknown: did you mean 'cores'"),
    ("cores: 8", "cores: 4.5", "board.yaml:6: column 'cores'"),
    ("cores: 8", "cores: -4", "board.yaml:6: column 'cores'"),
    ("cores: 8", "cores: many", "board.yaml:6: cores: 'many' is not a number"),
    ("cores: 8", "cores: true", "board.yaml:6: field 'cores': 'True' is neither"),
    ("cores: 8", "cores: [8]", "board.yaml:6: field 'cores'"),
    ("cores: 8", "cores: .nan", "board.yaml:6: cores: 'nan' is not a number"),
    ("cores: 8", "cores:", "board.yaml:6: field 'cores'"),
    ("cores: 8", "cores: 8\ncores: 4", "board.yaml:7: .*given twice"),
    ("clock_mhz: 2400", "clock_mhz: 2.4 GHz", "board.yaml:7: clock_mhz: '2.4 GHz' is not a number in MHz"),
    ("clock_mhz: 2400", "clock_mhz: 0", "board.yaml:7: column 'clock_mhz'"),
    ("device_class: sbc", "device_class: laptop", "board.yaml:4: column 'device_class'"),
    ("soc: RK3588", "soc: {a: b}", "board.yaml:3: field 'soc'"),
    ("cores: 8", "cores: 8: 9", "board.yaml:6: this is not .whole. YAML"),
])
def test_bad_boards_change_nothing(own, old, new, message):
    board, log, data = own
    assert old in BOARD
    board.write_text(BOARD.replace(old, new))
    before = _tables(data)
    with pytest.raises(DataError, match=message) as error:
        own_board.add_device(board, log, data)
    assert "\n" not in str(error.value) and _tables(data) == before


@pytest.mark.parametrize("text, message", [
    (BENCHNCNN.replace("resnet18", "resnet81"), "log.txt:9: network 'resnet81' is unknown: did you mean"),
    (BENCHNCNN.replace("104.75", "10"), "log.txt:9: "),
    (CSV.replace("mobilenet_v2_1.0", "mobilenet_v2_1.00"), "log.txt:4: network 'mobilenet_v2_1.00' is unknown"),
    ("hello\n", "log.txt:1: column 'hello' is unknown"), ("\0", "log.txt: this is not a text"), ("", "empty")])
def test_bad_measurements_change_nothing(own, text, message):
    board, log, data = own
    log.write_text(text)
    before = _tables(data)
    with pytest.raises(DataError, match=message):
        own_board.add_device(board, log, data)
    assert _tables(data) == before


def test_an_interrupted_addition_leaves_whole_tables_and_can_be_repeated(own, monkeypatch):
    board, log, data = own
    before, move, calls = _tables(data), os.replace, []

    def fail(source, target):
        calls.append(target)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        move(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DataError, match="cannot be written: No space left"):
        own_board.add_device(board, log, data)
    assert "measurements.csv" not in _tables(data) and not [p for p in data.rglob(".*")]
    monkeypatch.undo()
    own_board.add_device(board, log, data)
    assert len(pd.read_csv(data / "facts" / "own" / "measurements.csv")) == 3 and before != _tables(data)


def test_tables_that_cannot_be_staged_stay_as_they_were(own, monkeypatch):
    board, log, data = own
    before, write, calls = _tables(data), pd.DataFrame.to_csv, []

    def fail(self, path, **options):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        write(self, path, **options)

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(DataError, match="No space left"):
        own_board.add_device(board, log, data)
    assert _tables(data) == before


def test_a_new_folder_begins_with_the_shipped_tables_and_knows_the_board(own, tmp_path):
    board, log, _ = own
    data = tmp_path / "mine"
    own_board.add_device(board, log, data)
    benchmark = load_benchmark(data)
    rows = benchmark.measurements.query("device_id == 'my_board_1'")
    assert rows["latency_ms"].tolist() == [31.9, 40.5, 104.75] and rows["kind"].eq("latency").all()
    assert not rows["excluded"].any() and set(rows["model_id"]) <= set(benchmark.models["model_id"])
    assert "my_board_1" in set(benchmark.devices["device_id"])
    assert "my_board_1" not in (paths.DATA / "registry" / "devices.csv").read_text()


def test_a_board_without_a_name_can_be_described():
    fields = {"cores": 4, "isa": "armv8-a"}
    path = os.path.join("/tmp", f"board_{os.getpid()}.yaml")
    try:
        with open(path, "w") as out:
            out.writelines(f"{k}: {v}\n" for k, v in fields.items())
        assert own_board.read_board(path, named=False) == fields
        with pytest.raises(DataError, match="device_id"):
            own_board.read_board(path)
    finally:
        os.unlink(path)
