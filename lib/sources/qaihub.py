"""``perf.yaml`` and ``numerics.yaml`` of Qualcomm AI Hub Models."""
from __future__ import annotations

from pathlib import PurePath
from typing import Iterator

import yaml

from lib.sources import Reading, Rows, identify, slug

RUNTIMES = {"tflite": "tflite", "qnn_dlc": "qnn", "qnn_context_binary": "qnn", "onnx": "onnxruntime",
            "precompiled_qnn_onnx": "onnxruntime"}
METRICS = {"Classification Accuracy": "top1", "Mean Average Precision": "map50_95", "Word Error Rate": "wer",
           "Mean Intersection Over Union": "miou", "Peak Signal-to-Noise Ratio (PSNR)": "psnr"}
NUMBER = (int, float)
LINE = "__line__"


class _Loader(yaml.SafeLoader):
    """YAML whose mappings know their line; repeated keys and references are refused."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="references are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if (word := str(key.value)) in seen:
                raise yaml.MarkedYAMLError(problem=f"'{word}' is given twice", problem_mark=key.start_mark)
            seen.add(word)
        return super().construct_mapping(node, deep) | {LINE: node.start_mark.line + 1}


def load_yaml(rows: Rows, text: str, generated: bool = True) -> dict:
    """Mapping of a YAML text; every mapping in it has its line under :data:`LINE`."""
    if generated and not text.endswith("\n"):
        raise rows.error(text.count("\n") + 1, "the last line has no line break: the text may be cut")
    try:
        content = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise rows.error(mark.line + 1 if mark else 1, f"this is not (whole) YAML: {problem}") from None
    if not isinstance(content, dict):
        raise rows.error(1, "YAML with lines 'name: value' is needed")
    return content


def _part(rows: Rows, node: dict, key: str, kind: type | tuple = dict):
    """Value of a key, of the kind that it must have."""
    value = node.get(key)
    if isinstance(value, bool) or not isinstance(value, kind) or kind is NUMBER and not abs(value) < 1e300:
        raise rows.error(node[LINE], f"'{key}' is missing or of another kind: cut text, or another version")
    return value


def _parts(rows: Rows, node: dict) -> Iterator[tuple[str, dict]]:
    """Keys and values of a mapping of mappings."""
    return ((str(key), _part(rows, node, key)) for key in node if key != LINE)


def _runtime(rows: Rows, line: int, path: str) -> str:
    if path not in RUNTIMES:
        raise rows.error(line, f"runtime {path[:40]!r} is unknown (allowed: {', '.join(RUNTIMES)})")
    return RUNTIMES[path]


def read_perf(text: str, file: str, model_name: str = "", date: str = "") -> Reading:
    """Jobs that passed; a model of several components is called ``model_name`` (default: as its folder)."""
    rows = Rows("qaihub", file)
    for precision, entry in _parts(rows, _part(rows, load_yaml(rows, text), "precisions")):
        components = _part(rows, entry, "components")
        for component, content in _parts(rows, components):
            several = len(components) > 2  # one is the line
            name = (model_name or PurePath(file).parent.name) if several else component
            cells = {**identify("qaihub", name, "dataset", "input_shape"), "date": date,
                     "source_ref": f"{file} # {precision}/{component}"}
            for device, runtimes in _parts(rows, _part(rows, content, "performance_metrics")):
                for path, job in _parts(rows, runtimes):
                    if _part(rows, job, "job_status", str) == "Passed" and "llm_metrics" not in job:
                        _job(rows, job, precision, path, f"component={component}; " * several,
                             **cells, device_name=device, device_id=slug(device))
    return rows.reading()


def _job(rows: Rows, job: dict, precision: str, path: str, note: str, **cells: str) -> None:
    line, layers = job[LINE], _part(rows, job, "layer_counts")
    memory = _part(rows, job, "estimated_peak_memory_range_mb")
    low, high = _part(rows, memory, "min", NUMBER), _part(rows, memory, "max", NUMBER)
    if not 0 <= low <= high:
        raise rows.error(memory[LINE], f"peak memory from {low} to {high} MB (allowed: 0 <= min <= max)")
    unit = _part(rows, job, "primary_compute_unit", str).lower()
    tools = [f"{tool} {number}" for tool, number in _part(rows, job, "tool_versions").items() if tool != LINE]
    note += "layers " + ",".join(f"{u}={layers.get(u, 0)}" for u in ("npu", "gpu", "cpu"))
    note += f"; memory min {low:g} MiB"
    note += "; float executed in fp16 on NPU" * (precision == "float" and unit == "npu")
    rows.add(line, **cells, **rows.precision(line, precision), processor=unit, batch_size=1, note=note,
             runtime=_runtime(rows, line, path), ram_kib=high * 1024 or None,
             runtime_version="; ".join([path, *sorted(tools, reverse=True)]),
             latency_ms=_part(rows, job, "inference_time_milliseconds", NUMBER), latency_stat="unspecified")


def read_numerics(text: str, file: str, model_name: str) -> Reading:
    """Accuracies of a model (the file does not name it): in torch, and per device, precision and runtime."""
    rows = Rows("qaihub", file)
    for entry in _part(rows, load_yaml(rows, text), "metrics", list):
        if not isinstance(entry, dict):
            raise rows.error(1, "'metrics' must be a list of mappings")
        line, name = entry[LINE], _part(rows, entry, "metric_name", str)
        split = entry.get("dataset_split_description")
        split = f"{_part(rows, entry, 'num_partial_samples', int)} samples of {split}"
        cells = {**identify("qaihub", model_name, "input_shape"), "metric": METRICS.get(name) or slug(name),
                 "dataset": slug(_part(rows, entry, "dataset_name", str)), "training": "pretrained",
                 "unit": str(entry.get("metric_unit") or "")}
        rows.add(line, **cells, **rows.precision(line, "torch"), note=f"torch reference; {split}",
                 value=_part(rows, entry, "partial_torch_metric", NUMBER))
        for device, precisions in _parts(rows, _part(rows, entry, "device_metric")):
            for precision, runtimes in _parts(rows, precisions):
                for path, result in _parts(rows, runtimes):
                    line, half = result[LINE], "; float; runs in fp16 on NPU" * (precision == "float")
                    rows.add(line, **cells, **rows.precision(line, precision), device_id=slug(device),
                             note=f"runtime={_runtime(rows, line, path)} ({path}){half}; {split}",
                             value=_part(rows, result, "partial_metric", NUMBER))
    return rows.reading()
