"""``perf.yaml`` and ``numerics.yaml`` of Qualcomm AI Hub Models."""
from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import Iterator

from lib.sources import LINE, WORDS, Reading, Rows, identify, slug

WORDS = WORDS["qaihub"]
NUMBER = (int, float)


def _whole(rows: Rows, text: str) -> dict:
    if not text.endswith("\n"):
        raise rows.error(text.count("\n") + 1, "the last line has no line break: the text may be cut")
    return rows.yaml(text)


def _part(rows: Rows, node: dict, key: str, kind: type | tuple = dict):
    """Value of a key, of the kind that it must have."""
    value = node.get(key)
    if isinstance(value, bool) or not isinstance(value, kind) or kind is NUMBER and not abs(value) < 1e300:
        raise rows.error(node[LINE], f"'{key}' is missing or of another kind: cut text, or another version")
    return value


def _each(rows: Rows, node: dict, path: str) -> Iterator[tuple[tuple[str, ...], dict]]:
    """Every mapping at a path such as ``metrics/*/*``, with the keys that stand at its stars."""
    head, _, rest = path.partition("/")
    for key in [key for key in node if key != LINE] if head == "*" else [head]:
        part = _part(rows, node, key)
        for keys, found in _each(rows, part, rest) if rest else [((), part)]:
            yield ((str(key), *keys) if head == "*" else keys), found


def read_perf(text: str, file: str, model_name: str = "", date: str = "") -> Reading:
    """Jobs that passed; a model of several components is called ``model_name`` (default: as its folder)."""
    rows = Rows("qaihub", file)
    content, parts = _whole(rows, text), "precisions/*/components/*"
    components = Counter(precision for (precision, _), _ in _each(rows, content, parts))
    for (precision, component, device, path), job in _each(rows, content, f"{parts}/performance_metrics/*/*"):
        if _part(rows, job, "job_status", str) == "Passed" and "llm_metrics" not in job:
            several = components[precision] > 1
            name = (model_name or PurePath(file).parent.name) if several else component
            rows.add(job[LINE], **identify("qaihub", name, "dataset", "input_shape"), date=date,
                     source_ref=f"{file} # {precision}/{component}", precision_name=precision, device_name=device,
                     device_id=slug(device), **_job(rows, job, precision, path, component * several))
    return rows.reading()


def _job(rows: Rows, job: dict, precision: str, path: str, component: str) -> dict[str, object]:
    memory, layers = _part(rows, job, "estimated_peak_memory_range_mb"), _part(rows, job, "layer_counts")
    low, high = _part(rows, memory, "min", NUMBER), _part(rows, memory, "max", NUMBER)
    if not 0 <= low <= high:
        raise rows.error(memory[LINE], f"peak memory from {low} to {high} MB (allowed: 0 <= min <= max)")
    unit = _part(rows, job, "primary_compute_unit", str).lower()
    tools = [f"{tool} {number}" for tool, number in _part(rows, job, "tool_versions").items() if tool != LINE]
    notes = [f"component={component}" * bool(component),
             "layers " + ",".join(f"{u}={layers.get(u, 0)}" for u in ("npu", "gpu", "cpu")), f"memory min {low:g} MiB",
             "float executed in fp16 on NPU" * (precision == "float" and unit == "npu")]
    return {"processor": unit, "batch_size": 1, "note": "; ".join(filter(None, notes)), "ram_kib": high * 1024 or None,
            "runtime": rows.translate(job[LINE], "runtime", path, WORDS["runtimes"]),
            "runtime_version": "; ".join([path, *sorted(tools, reverse=True)]), "latency_stat": "unspecified",
            "latency_ms": _part(rows, job, "inference_time_milliseconds", NUMBER)}


def read_numerics(text: str, file: str, model_name: str) -> Reading:
    """Accuracies of a model (the file does not name it): in torch, and per device, precision and runtime."""
    rows = Rows("qaihub", file)
    for entry in _part(rows, _whole(rows, text), "metrics", list):
        if not isinstance(entry, dict):
            raise rows.error(1, "'metrics' must be a list of mappings")
        name, samples = _part(rows, entry, "metric_name", str), _part(rows, entry, "num_partial_samples", int)
        split = f"{samples} samples of {entry.get('dataset_split_description')}"
        cells = {**identify("qaihub", model_name, "input_shape"), "training": "pretrained",
                 "metric": WORDS["metrics"].get(name) or slug(name), "unit": entry.get("metric_unit") or "",
                 "dataset": slug(_part(rows, entry, "dataset_name", str))}
        rows.add(entry[LINE], **cells, precision_name="torch", note=f"torch reference; {split}",
                 value=_part(rows, entry, "partial_torch_metric", NUMBER))
        for (device, precision, path), result in _each(rows, entry, "device_metric/*/*/*"):
            runtime = rows.translate(result[LINE], "runtime", path, WORDS["runtimes"])
            half = "; float; runs in fp16 on NPU" * (precision == "float")
            rows.add(result[LINE], **cells, precision_name=precision, device_id=slug(device),
                     note=f"runtime={runtime} ({path}){half}; {split}", value=_part(rows, result, "partial_metric", NUMBER))
    return rows.reading()
