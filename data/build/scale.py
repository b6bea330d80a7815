"""How loading and joining grow with the table: ``python -m data.build.scale`` writes ``results/scale.csv``.

The measurements are repeated for copies of every device (with names of their own), which gives as many times the rows,
platforms and queries. Each size runs in a process of its own, so that its peak memory is known. ``plain`` loads the
tables as the study does; ``lean`` reads only columns that joins and flags use, block by block, words as categories.
"""
from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from pandas.api.types import union_categoricals

from lib import paths, quirks, registry
from lib.benchmark import build_queries, load_benchmark

SIZES = (1, 10, 100)
SUITES = ("mcu", "npu")
WORDS = ["source", "model_name", "model_id", "task_type", "dataset", "input_shape", "precision", "device_id", "processor",
         "runtime", "power_mode", "date"]
NUMBERS = ["threads", "clock_mhz", "latency_ms", "latency_min_ms", "latency_max_ms", "throughput_ips", "energy_uj", "power_mw", "ram_kib",
           "ram_internal_kib", "ram_external_kib", "ram_activation_kib", "ram_runtime_kib", "flash_kib", "flash_weights_kib", "flash_code_kib"]
FOR_FLAGS = ["note", "device_name"]  # read by the rules of the quirks, then dropped
BLOCK = 100_000  # rows


def lay_out(target: Path, times: int) -> Path:
    """A copy of ``data`` whose measurements and devices are there ``times`` over; returns the table of measurements."""
    for part in ("tokens", "facts", "registry"):
        (target / part).mkdir(parents=True)
        for path in (paths.DATA / part).iterdir():
            if part != "facts":
                (target / part / path.name).symlink_to(path)
            elif (path / "accuracies.csv").exists():
                (target / part / path.name).mkdir()
                for table in path.glob("accuracies*.csv"):
                    (target / part / path.name / table.name).symlink_to(table)
    table = pd.concat([pd.read_csv(p, dtype=str) for p in sorted(paths.FACTS.glob("*/measurements.csv"))], ignore_index=True)
    sheet = registry.read(paths.REGISTRY / "devices.csv")
    table["device_id"] = table["device_id"].map(registry.lookup(sheet, "device_id"))
    (target / "registry" / "devices.csv").unlink()
    (target / "facts" / "copies").mkdir()
    for frame, path in ((table, target / "facts" / "copies" / "measurements.csv"), (sheet.assign(aliases=""), target / "registry" / "devices.csv")):
        for number in range(times):
            names = {c: frame[c] + (f"~{number}" if number else "") for c in ("device_id", "soc_group") if c in frame}
            frame.assign(**names).to_csv(path, mode="a", header=number == 0, index=False)
    return target / "facts" / "copies" / "measurements.csv"


def lean(path: Path) -> pd.DataFrame:
    """The measurements with their flags: numbers in single precision, words as categories, notes dropped."""
    blocks = []
    for block in pd.read_csv(path, usecols=WORDS + NUMBERS + FOR_FLAGS, chunksize=BLOCK, low_memory=False):
        block = quirks.without_unusable(quirks.add_flags(block.reset_index(drop=True))).drop(columns=FOR_FLAGS)
        blocks.append(block.astype({c: "category" for c in [*WORDS, "flags", "kind"]} | {c: "float32" for c in NUMBERS}))
    words = {c: union_categoricals([b[c] for b in blocks]) for c in [*WORDS, "flags", "kind"]}
    return pd.concat([b.drop(columns=list(words)) for b in blocks], ignore_index=True).assign(**words)


def measure(times: int, way: str) -> dict[str, object]:
    """One size: CPU seconds ``load_s``, ``mib`` of the measurements in memory, ``peak_mib`` of the process, ``join_s``, ``queries``."""
    row: dict[str, object] = {"times": times, "way": way}
    with tempfile.TemporaryDirectory() as folder:
        path = lay_out(Path(folder) / "data", times)
        start = time.process_time()
        benchmark = None if way == "lean" else load_benchmark(path.parents[2])
        table = lean(path) if benchmark is None else benchmark.measurements
        row |= {"rows": len(table), "file_mib": path.stat().st_size / 2**20, "load_s": time.process_time() - start,
                "mib": table.memory_usage(deep=True).sum() / 2**20}
    if benchmark is not None:
        start = time.process_time()
        row["queries"] = sum(len(build_queries(benchmark, suite)) for suite in SUITES)
        row["join_s"] = time.process_time() - start
    return row | {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> int:
    """Measure every size, or one of them and print it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m data.build.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, metavar=("TIMES", "WAY"), help="only this size, plain or lean, as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(int(options.one[0]), options.one[1])))
        return 0
    rows = []
    for times in SIZES:
        for way in ("plain", "lean"):
            command = [sys.executable, "-m", "data.build.scale", "--one", str(times), way]
            out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=paths.ROOT).stdout
            rows.append(json.loads(out.splitlines()[-1]))
            print(out.splitlines()[-1], flush=True)
    paths.RESULTS.mkdir(exist_ok=True)
    pd.DataFrame(rows).round(3).to_csv(paths.RESULTS / "scale.csv", index=False, lineterminator="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
