"""Results of MLPerf Tiny: a system's folder of ``<benchmark>/{performance,energy,accuracy}/results.txt``."""
from __future__ import annotations

from pathlib import Path

from lib.schema import ACCURACIES, DataError
from lib.sources import Reading, Rows, read_text, slug

#: Benchmark -> the network of the closed division, and the accuracy that counts.
BENCHMARKS = {
    "ic": ("ResNet", "resnet8", "image_classification", "cifar10", "32x32x3", "top1"),
    "vww": ("MobileNet", "mobilenet_v1_0.25", "visual_wake_words", "visual_wake_words", "96x96x3", "top1"),
    "kws": ("DS-CNN", "ds_cnn", "keyword_spotting", "speech_commands_v2", "49x10x1", "top1"),
    "ad": ("Deep AutoEncoder", "fc_autoencoder", "anomaly_detection", "toyadmos", "640", "auc")}
#: Figure -> the words before it in the runner's summary, and its unit.
FIGURES = {"performance": ("Median throughput is", "inf./sec."),
           "energy": ("Median energy cost is", "uJ/inf."), "top1": ("Top-1:", "%"), "auc": ("AUC:", "")}


def read(texts: dict[str, str], folder: str, benchmark: str, **system: object) -> Reading:
    """One system's results on one benchmark.

    ``texts``: content of the results.txt of ``performance``, ``energy``, ``accuracy``, any of them;
    ``system``: cells such as ``device_id, device_name, processor, runtime, clock_mhz, date, note``.
    """
    *network, metric = BENCHMARKS[benchmark]
    cells = dict(zip(("model_name", "model_id", "task_type", "dataset", "input_shape"), network))
    cells |= {"precision": "int8", "precision_name": "int8"} | system
    rows = Rows("mlperf_tiny", folder)
    found = {run: _figure(text, f"{folder}/{run}/results.txt", metric if run == "accuracy" else run)
             for run, text in texts.items()}
    if "performance" in found:
        line, rate = found["performance"]
        rows.add(line, **cells, throughput_ips=rate, latency_ms=float(f"{1000 / rate:.6g}"), batch_size=1,
                 latency_stat="median", energy_uj=found.get("energy", (0, None))[1],
                 source_ref=f"{folder}/performance/results.txt")
    if "accuracy" in found:
        shared = {c: v for c, v in cells.items() if c in ACCURACIES.columns}
        line, value = found["accuracy"]
        rows.add(line, **shared, metric=metric, value=value, unit="%" if metric == "top1" else "fraction",
                 training="pretrained", source_ref=f"{folder}/accuracy/results.txt")
    return rows.reading()


def _figure(text: str, file: str, what: str) -> tuple[int, float]:
    """Line and value of a figure of the runner's summary, which may be printed more than once."""
    (words, unit), rows, found = FIGURES[what], Rows("mlperf_tiny", file), {}
    for line, content in enumerate(text.splitlines(keepends=True), 1):
        _, said, rest = content.partition(words)
        if said:
            value = rows.number(line, rest, what, unit)
            whole = rest.rstrip().endswith(unit) if unit else rest.endswith("\n")
            if not whole or value is None or not value > 0:
                raise rows.error(line, f"{what}: {rest.strip()[:40]!r} is no number above 0 in '{unit}'")
            found.setdefault(value, line)
    if len(found) != 1:
        problem = "differs from an earlier line" if found else "is missing: the text is cut, or no summary"
        line = max(found.values(), default=text.count("\n") or 1)
        raise rows.error(line, f"'{words} ... {unit}' {problem}")
    value, line = found.popitem()
    return line, value


def read_folder(folder: str | Path, **system: object) -> list[Reading]:
    """Results of every benchmark in ``results/<system>``; ``system`` as in :func:`read`."""
    readings = []
    for benchmark in BENCHMARKS:
        texts = {run: read_text(path) for run in ("performance", "energy", "accuracy")
                 if (path := Path(folder, benchmark, run, "results.txt")).exists()}
        if texts:
            cells = {"device_id": slug(Path(folder).name)} | system
            readings.append(read(texts, f"{folder}/{benchmark}", benchmark, **cells))
    if not readings:
        raise DataError(f"{folder}: none of the folders {', '.join(BENCHMARKS)} holds a results.txt")
    return readings
