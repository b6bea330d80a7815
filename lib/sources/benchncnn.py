"""Text that ``benchncnn`` of Tencent/ncnn prints: runs, each with its settings before its results."""
from __future__ import annotations

import re

from lib.sources import Reading, Rows, identify

SETTINGS = ("loop_count", "num_threads", "powersave", "gpu_device", "cooling_down")
CORES = ("all", "little", "big")
_SETTING = re.compile(r"(\w+) = (-?\d{1,9})\s*")
_FIGURE = r"\s+{} =\s*(-?\d+\.\d\d)"  # always two decimals: fewer are a sign of a cut line
_RESULT = re.compile(r"\s*([\w.+-]+)" + "".join(map(_FIGURE.format, ("min", "max", "avg"))) + r"\s*")
_GPU = re.compile(r"\[(\d+) (.+?)\]\s+(.*)")
_ASIDE = re.compile(r"\s*$|```|#|.*[$#>%].*benchncnn|\S*benchncnn")  # headings, and the command itself


def read(text: str, file: str, source: str = "ncnn", **device: object) -> Reading:
    """Latencies of every network of every run; ``device``: cells such as ``device_id, device_name, date``."""
    rows, run, gpus, waiting = Rows(source, file), {}, {}, 0
    for line, content in enumerate(text.splitlines(), 1):
        if setting := _SETTING.fullmatch(content):
            name, value = setting[1], int(setting[2])
            if name not in SETTINGS or name == "powersave" and not 0 <= value <= 2:
                raise rows.error(line, f"setting {content.strip()[:40]!r} is unknown")
            run, waiting = {name: value} if name == SETTINGS[0] else run | {name: value}, line
        elif gpu := _GPU.match(content):
            flags = re.search(r"fp16-([psua/]+)=([\d/]+)", gpu[3])
            older = re.findall(r"fp16(.)=(\d)", gpu[3])
            pairs = zip(*(f.split("/") for f in flags.groups())) if flags else older
            gpus.setdefault(int(gpu[1]), {"name": gpu[2]}).update(pairs)
        elif result := _RESULT.fullmatch(content):
            if not {"loop_count", "num_threads", "powersave"} <= run.keys():
                raise rows.error(line, "loop_count, num_threads and powersave must precede the results")
            low, high, mean = map(float, result.groups()[1:])
            rows.add(line, **identify("ncnn", result[1], "dataset", "input_shape"), **device,
                     **_unit(run, gpus, result[1]), runtime="ncnn", batch_size=1, threads=run["num_threads"],
                     power_mode=f"powersave={run['powersave']} ({CORES[run['powersave']]} cores)",
                     latency_ms=mean, latency_stat="mean", latency_min_ms=low, latency_max_ms=high)
            waiting = 0
        elif not _ASIDE.match(content):
            raise rows.error(line, f"{content.strip()[:60]!r} is no (whole) line of benchncnn, such as "
                                   "'resnet18  min = 10.12  max = 10.31  avg = 10.20' in milliseconds")
    if waiting:
        raise rows.error(waiting, "no result follows these settings: the text is cut")
    return rows.reading()


def _unit(run: dict[str, int], gpus: dict[int, dict[str, str]], name: str) -> dict[str, str]:
    """Processor, precision and note. A GPU prints which 16-bit formats it uses; int8 stays on the CPU."""
    note = "; ".join(f"{c}={run[c]}" for c in ("loop_count", "cooling_down") if c in run)
    precision = "int8" if name.endswith("int8") else "fp32"
    cells = {"processor": "cpu", "precision_name": "int8" if precision == "int8" else "float"}
    if run.get("gpu_device", -1) >= 0:
        gpu = gpus.get(run["gpu_device"], {"name": "unnamed"})
        note = "int8 layers run on the CPU; " * (precision == "int8") + f"GPU: {gpu['name']}; {note}"
        if precision == "fp32":
            half = [gpu.get(use) == "1" for use in "aps"]  # arithmetic, packing, storage
            precision = "fp16" if half[0] else "mixed" if any(half) else "fp32"
        cells["processor"] = "gpu"
    return cells | {"precision": precision, "note": note}
