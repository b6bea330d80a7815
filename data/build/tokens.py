"""Task tokens: ``names.npz`` from the registry of tasks, ``images.npz`` from folders of sample images."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lib import paths
from lib.prototypes import clean, encode, from_images, prompt


def write_names(folder: Path = paths.TOKENS, tasks: Path = paths.REGISTRY / "tasks.csv") -> None:
    """Write ``names.npz``: a float16 vector for each different sentence of the tasks. Sentences that the
    shipped file holds keep their vector, so that the encoder is needed for new ones only."""
    rows, names = {}, {}
    for t in pd.read_csv(tasks, keep_default_na=False, dtype=str).itertuples():
        what = clean(f"{t.task_type} on {t.dataset}" if t.dataset else t.task_type)
        pairs = [(prompt(name, t.task, t.domain), clean(name)) for name in t.class_names.split("|") if name]
        if not pairs:  # no class is known: one sentence stands for the whole task
            pairs = [(t.description or (f"{what}: {t.domain}" if t.domain else what), "")]
        rows[t.task] = [text for text, _ in pairs]
        names.update((text, names.get(text) or name) for text, name in pairs)
    texts, vectors = sorted(names), {}
    if (paths.TOKENS / "names.npz").exists():
        with np.load(paths.TOKENS / "names.npz", allow_pickle=False) as old:
            vectors = dict(zip(old["texts"].tolist(), old["vectors"]))
    new = [text for text in texts if text not in vectors]
    vectors.update(zip(new, encode(new).astype(np.float16)) if new else ())
    where = {text: i for i, text in enumerate(texts)}
    np.savez_compressed(folder / "names.npz", texts=texts, names=[names[text] for text in texts],
                        vectors=np.stack([vectors[text] for text in texts]), tasks=list(rows),
                        rows=np.array([where[text] for each in rows.values() for text in each], np.int32),
                        ends=np.cumsum([len(each) for each in rows.values()]))


def write_images(source: Path, folder: Path = paths.TOKENS) -> None:
    """Write ``images.npz`` from ``source``, one sub-folder a data set. Features are never negative, so a
    prototype is kept in 8-bit steps of its largest value: half of float16, a turn of less than one degree."""
    sets = {path.name: from_images(path) for path in sorted(source.iterdir()) if path.is_dir()}
    vectors = np.concatenate([p.vectors for p in sets.values()])
    steps = np.rint(vectors / vectors.max(axis=1, keepdims=True) * 255).astype(np.uint8)
    classes, counts, spread = (np.concatenate(field) for field in list(zip(*sets.values()))[1:])
    np.savez_compressed(folder / "images.npz", vectors=steps, datasets=list(sets), classes=classes,
                        scale=(1 / np.linalg.norm(steps.astype(np.float64), axis=1)).astype(np.float32),
                        counts=counts.astype(np.int32), spread=spread.astype(np.float32),
                        ends=np.cumsum([len(p.classes) for p in sets.values()]))
