"""The trained rankers that come with the data: how they are made, on which tables, and how far off they are."""
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from pkgutil import resolve_name
from typing import Sequence

import numpy as np
import pandas as pd

from lib import paths
from lib.benchmark import SUITES, Benchmark, Query, build_queries, load_benchmark, platform_queries, transfer_queries
from lib.neighbours import Neighbours

KINDS = {"task": "lib.spider:ModelSpider", "hardware": "lib.shadow:HardwareRanker", "fusion": "lib.fusion:Fusion"}
DIM = 48
ERRORS = "recommend_errors.csv"  # of latencies predicted for chips held out, in data/results


def fingerprint(data: Path | str = paths.DATA) -> str:
    """SHA-256 over the tables that the shipped rankers learn from."""
    data, digest = Path(data), hashlib.sha256()
    sources = sorted({s for suite in SUITES.values() for s in suite.measurements + suite.accuracies} | {"transfer"})
    files = [p for s in sources for p in sorted((data / "facts" / s).glob("*.csv")) if p.stem.startswith(("measurements", "accuracies"))]
    files += [data / "registry" / f"{n}.csv" for n in ("models", "model_shapes", "devices", "tasks", "quirks", "noise")]
    for path in files + sorted((data / "tokens").glob("*.npz")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def load(name: str, data: Path | str = paths.DATA) -> tuple[object, str]:
    """A shipped ranker, and a note if it was trained on other tables than these (else empty)."""
    path = Path(data) / "models" / f"{name}.safetensors"
    if not path.exists():
        raise ValueError(f"{path} is missing: 'python -m lib train' makes it")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            fresh = (file.metadata() or {}).get("data") == fingerprint(data)
        ranker = resolve_name(KINDS[name]).load(path)
    except (RuntimeError, TypeError, KeyError, OSError, SafetensorError):
        raise ValueError(f"{path} cannot be read by this version: 'python -m lib train' renews it") from None
    return ranker, "" if fresh else f"{path.name} was trained on other tables than these: 'python -m lib train' renews it"


def training_queries(benchmark: Benchmark, tasks: int = 6) -> list[Query]:
    """Every query of every suite; of a platform with more than ``tasks`` tasks, other ones than its neighbour's."""
    out = []
    for name in SUITES:
        places: dict[str, list[Query]] = {}
        for q in build_queries(benchmark, name):
            places.setdefault(str(q.platform), []).append(q)
        for i, queries in enumerate(places.values()):
            step = max(1.0, len(queries) / tasks)
            out += [queries[(int(k * step) + i) % len(queries)] for k in range(min(tasks, len(queries)))]
    return out


def train(data: Path | str = paths.DATA, seed: int = 0, dim: int = DIM, names: Sequence[str] = tuple(KINDS), progress: bool = False,
          **options: object) -> list[Path]:
    """Train the shipped rankers and write them to ``data/models``, stamped with the tables that they learned from."""
    benchmark, files = load_benchmark(data), {name: Path(data) / "models" / f"{name}.safetensors" for name in names}
    queries, print_ = training_queries(benchmark), fingerprint(data)
    for name, path in files.items():
        extra = transfer_queries(benchmark) if name == "task" else []
        resolve_name(KINDS[name])(dim=dim, seed=seed, progress=progress, **options).fit(queries + extra).save(path)
        raw = path.read_bytes()  # length of the header, header in JSON, tensors
        end = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:end])
        header["__metadata__"]["data"] = print_
        text = json.dumps(header, sort_keys=True).encode()  # sorted: the same file from the same tables
        text += b" " * (-len(text) % 8)
        with paths.written(path) as part:
            part.write_bytes(len(text).to_bytes(8, "little") + text + raw[end:])
    return list(files.values())


def held_out(benchmark: Benchmark, folds: int = 4, seed: int = 0, trained: bool = True, progress: bool = False, **options: object) -> pd.DataFrame:
    """Latencies predicted for boards whose chip was left out, against the measured ones: one row a platform and method.

    ``hardware``: the trained ranker; ``neighbours``: similar boards alone; ``both``: what :func:`recommend` uses.
    """
    from lib.evaluation import splits, weighted_tau
    from lib.shadow import HardwareRanker

    queries = [q for q in platform_queries(training_queries(benchmark)) if "latency" in q.metrics]
    near, rows, socs = Neighbours(benchmark), [], benchmark.devices.set_index("device_id")["soc"].fillna("")
    for split in splits(queries, "unseen_device", folds, seed):
        ranker = HardwareRanker(dim=DIM, seed=seed, progress=progress, **options).fit(split.train) if trained else None
        for q in split.test:
            truth = q.values["latency_ms"].to_numpy()
            e = near.predict(q.candidates, q.specs, soc=socs[q.platform.device_id], left_out=q.soc)
            found = {"neighbours": np.where(np.isfinite(e.value), e.value, np.nanmedian(e.value))} if np.isfinite(e.value).any() else {}
            if ranker:
                found["hardware"] = ranker.predict(q)["latency"]
                found["both"] = e.blend(found["hardware"], q.candidates)
            for method, value in found.items():
                error = np.abs(np.log10(value / truth))
                rows.append({"method": method, "suite": q.suite, "device_id": q.platform.device_id, "soc_group": q.soc, "processor": q.platform.processor,
                             "runtime": q.platform.runtime, "device_class": q.specs.get("device_class", ""), "n": len(q),
                             "factor50": 10 ** np.median(error), "factor90": 10 ** np.quantile(error, 0.9), "tau": weighted_tau(-truth, -value)})
    return pd.DataFrame(rows)
