"""Results of MLPerf Tiny: a system's folder of ``<benchmark>/{performance,energy,accuracy}/results.txt``."""
from __future__ import annotations

from pathlib import Path

from lib.schema import DataError
from lib.sources import WORDS, Reading, Rows, read_text, slug

WORDS = WORDS["mlperf_tiny"]


def read(texts: dict[str, str], folder: str, benchmark: str, **system: object) -> Reading:
    """One system's results on one benchmark.

    ``texts``: content of the results.txt of ``performance``, ``energy``, ``accuracy``, any of them;
    ``system``: cells such as ``device_id, device_name, processor, runtime, clock_mhz, date, note``.
    """
    cells = WORDS["benchmarks"][benchmark] | {"precision_name": "int8"} | system
    metric, rows, files = cells.pop("metric"), Rows("mlperf_tiny", folder), {r: f"{folder}/{r}/results.txt" for r in texts}
    found = {run: _figure(text, files[run], metric if run == "accuracy" else run) for run, text in texts.items()}
    if "performance" in found:
        line, rate = found["performance"]
        rows.add(line, **cells, source_ref=files["performance"], throughput_ips=rate, latency_ms=float(f"{1000 / rate:.6g}"),
                 batch_size=1, latency_stat="median", energy_uj=found.get("energy", (0, None))[1])
    if "accuracy" in found:
        line, value = found["accuracy"]
        rows.add(line, **cells, source_ref=files["accuracy"], metric=metric, value=value, training="pretrained",
                 unit="%" if metric == "top1" else "fraction")
    return rows.reading()


def _figure(text: str, file: str, what: str) -> tuple[int, float]:
    """Line and value of a figure of the runner's summary, which may be printed more than once."""
    (words, unit), rows, found = WORDS["figures"][what], Rows("mlperf_tiny", file), {}
    for line, content in enumerate(text.splitlines(keepends=True), 1):
        _, said, rest = content.partition(words)
        if said:
            whole = rest.rstrip().endswith(unit) if unit else rest.endswith("\n")
            value = rows.number(line, rest, what, unit) if whole else None
            if not value or value < 0:
                raise rows.error(line, f"{what}: {rest.strip()[:40]!r} is no number above 0 in '{unit}'")
            found.setdefault(value, line)
    if len(found) != 1:
        problem = "differs from an earlier line" if found else "is missing: the text is cut, or no summary"
        raise rows.error(max(found.values(), default=text.count("\n") or 1), f"'{words} ... {unit}' {problem}")
    value, line = found.popitem()
    return line, value


def read_folder(folder: str | Path, **system: object) -> list[Reading]:
    """Results of every benchmark in ``results/<system>``; ``system`` as in :func:`read`."""
    readings = []
    for benchmark in WORDS["benchmarks"]:
        texts = {run: read_text(path) for run in ("performance", "energy", "accuracy")
                 if (path := Path(folder, benchmark, run, "results.txt")).exists()}
        if texts:
            readings.append(read(texts, f"{folder}/{benchmark}", benchmark, **{"device_id": slug(Path(folder).name)} | system))
    if not readings:
        raise DataError(f"{folder}: none of the folders {', '.join(WORDS['benchmarks'])} holds a results.txt")
    return readings
