"""Small synthetic queries with a known law, shared by the tests of tokens, rankers and evaluation."""
from __future__ import annotations

import numpy as np
import pandas as pd

from lib.benchmark import Platform, Query

FAMILIES = ("alpha", "beta", "gamma", "delta")


def make_query(board: int = 0, task: int = 0, n: int = 8, seed: int = 0, missing: bool = False) -> Query:
    """Latency = MACs x a factor of the family that depends on the board; accuracy grows with parameters and task."""
    rng = np.random.default_rng(seed)
    params = np.round(10 ** rng.uniform(-0.5, 1.5, n), 4)
    macs = np.round(params * 10 ** rng.uniform(1.5, 2.5, n), 3)
    family = [FAMILIES[i % len(FAMILIES)] for i in range(n)]
    candidates = pd.DataFrame({
        "model_id": [f"model_{seed}_{i}" for i in range(n)], "pretrain_dataset": "imagenet", "training": "pretrained",
        "input_shape": "224x224x3", "precision": "fp32", "family": family, "architecture": "cnn", "params_m": params,
        "macs_m": macs, "macts_m": np.nan, "size_mib": params * 4, "year": 2015.0 + np.arange(n) % 8,
    })
    factor = np.array([1 + (board * (FAMILIES.index(f) + 1)) % 5 for f in family])
    clock = 500.0 * (1 + board)
    values = pd.DataFrame({
        "accuracy": 60 + 10 * np.log10(params) + np.array([(task * FAMILIES.index(f)) % 7 for f in family]),
        "latency_ms": macs * factor / clock, "memory_kib": params * 1000, "storage_kib": params * 4000, "energy_uj": np.nan,
    })
    if missing:
        values.loc[::3, "memory_kib"] = np.nan
    names = np.random.default_rng(100 + task).standard_normal((5, 384)).astype(np.float32)
    names /= np.linalg.norm(names, axis=1, keepdims=True)
    specs = {"clock_mhz": clock, "cores": 4.0, "isa": "armv8-a", "core_type": "cortex-a53 + cortex-a72", "processor": "cpu"}
    return Query("toy", "toy", f"image_classification/set{task}", Platform(f"board{board}", "cpu", "ncnn", 4), f"soc{board // 2}",
                 f"set{task // 2}", candidates, values, specs, {"names": names}, "top1")


def grid(boards: int = 4, tasks: int = 3, n: int = 8) -> list[Query]:
    """Every board with every task, the same candidates."""
    return [make_query(b, t, n) for b in range(boards) for t in range(tasks)]
