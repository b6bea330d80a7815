"""Queries -> tensors of tokens: PTM tokens' inputs, task tokens and one hardware token per known specification.

The hardware extractor Ψh never fills a gap: a field that the data sheet does not state gives no token, so a board with
half a data sheet still has a representation. Numbers are kept on a log scale and embedded with Fourier features.
"""
from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib.benchmark import Query
from lib.metrics import METRICS

PTM_NUMBERS = ("params_m", "macs_m", "macts_m", "size_mib", "pixels", "year")
PTM_WORDS = ("model_id", "pretrain_dataset", "family", "architecture", "precision", "training")
#: Words that identify one PTM; hidden at random in training so that a PTM never seen has a usable token too.
PTM_IDENTITY = ("model_id", "pretrain_dataset", "training")
HARDWARE_NUMBERS = ("cores", "clock_mhz", "ram_mib", "mem_bandwidth_gbs", "flash_mib", "l1_kib", "l2_kib", "npu_tops",
                    "tdp_w", "process_nm", "year", "threads", "gpu_clock_mhz", "peak_gmacs", "peak_gmacs_int8")
HARDWARE_WORDS = ("device_class", "isa", "core_type", "simd", "mem_type", "gpu", "npu", "vendor", "processor", "runtime")
MAX_PROTOTYPES = 32
UNKNOWN = 0
EXTRACTORS = {"names": 384, "images": 1280}


def image_area(shape: object) -> float:
    """Pixels (or samples) of an input such as ``224x224x3``; NaN if not stated."""
    sides = [float(s) for s in str(shape).split("x") if s.replace(".", "", 1).isdigit()]
    return float(np.prod(sides[:2])) if sides else np.nan


def ptm_numbers(query: Query) -> np.ndarray:
    """Traits of the candidates on a log scale, (n, len(PTM_NUMBERS)), NaN = not known; the year in decades since 2010."""
    codes, shapes = pd.factorize(query.candidates["input_shape"])  # a million candidates share a few shapes; -1 = not stated
    table = query.candidates.assign(pixels=np.array([*map(image_area, shapes), np.nan])[codes])
    values = table[list(PTM_NUMBERS)].to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(np.where(values > 0, values, np.nan))
    logs[:, -1] = (values[:, -1] - 2010) / 10
    return logs


def hardware_numbers(specs: Mapping[str, float | str]) -> dict[str, float]:
    """Known numeric specifications on a log scale (the year in decades since 2010)."""
    out = {}
    for name in HARDWARE_NUMBERS:
        value = specs.get(name)
        if isinstance(value, (int, float)) and value > 0:
            out[name] = (value - 2010) / 10 if name == "year" else float(np.log10(value))
    return out


def hardware_words(specs: Mapping[str, float | str]) -> list[str]:
    """Known verbal specifications as ``field=value``; lists such as ``neon+fp16`` give one word each."""
    out = []
    for name in HARDWARE_WORDS:
        value = specs.get(name)
        if not isinstance(value, str):
            continue
        if name in ("gpu", "npu"):  # the series matters, its number rarely repeats
            parts = [value.split()[0].split("-")[0]]
        elif name in ("simd", "core_type"):
            parts = [p.strip() for p in value.replace(",", "+").split("+")]
        else:
            parts = [value]
        out += [f"{name}={p}" for p in parts if p]
    if specs.get("dotprod") == 1:
        out.append("dotprod=1")
    return out


class Vocabulary:
    """Words seen in training and the centre and scale of the PTM's numbers; index 0 is the unknown word."""

    def __init__(self, words: Mapping[str, Sequence[str]], centre: Sequence[float], scale: Sequence[float]) -> None:
        self.words = {field: list(values) for field, values in words.items()}
        self.index = {field: {w: i + 1 for i, w in enumerate(values)} for field, values in self.words.items()}
        self.centre, self.scale = np.asarray(centre, float), np.asarray(scale, float)

    @classmethod
    def of(cls, queries: Iterable[Query]) -> "Vocabulary":
        """Collect the words of training queries, sorted: independent of the order of the queries."""
        queries = list(queries)
        words = {f: sorted({str(v) for q in queries for v in q.candidates[f].dropna()}) for f in PTM_WORDS}
        words["hardware"] = sorted({w for q in queries for w in hardware_words(q.specs)})
        numbers = np.concatenate([ptm_numbers(q) for q in queries])
        known = ~np.isnan(numbers)
        count = known.sum(0).clip(1)
        centre = np.where(known, numbers, 0).sum(0) / count
        scale = np.sqrt((np.where(known, numbers - centre, 0) ** 2).sum(0) / count)
        return cls(words, centre, np.where(scale > 1e-6, scale, 1.0))

    def codes(self, field: str, column: pd.Series) -> np.ndarray:
        """Index of each word of a column, (n,), 0 = unknown."""
        return pd.Index(self.words[field], dtype=object).get_indexer(column.astype(str)) + 1

    def to_dict(self) -> dict:
        """Plain lists, for saving without pickle."""
        return {"words": self.words, "centre": self.centre.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping) -> "Vocabulary":
        """Inverse of :meth:`to_dict`."""
        return cls(data["words"], data["centre"], data["scale"])


@dataclass
class Batch:
    """Token inputs of B queries, padded to M candidates, S prototypes and W hardware words.

    Shapes: ``numbers`` (B, M, P), ``words`` (B, M, len(PTM_WORDS)), ``candidates`` (B, M) mask, ``names`` (B, S, 384),
    ``images`` (B, S, 1280) with masks, ``specs`` (B, H) with NaN = not stated, ``hardware`` (B, W), 0 = no word.
    """

    numbers: Tensor
    words: Tensor
    candidates: Tensor
    names: Tensor
    names_mask: Tensor
    images: Tensor
    images_mask: Tensor
    specs: Tensor
    hardware: Tensor

    def take(self, index: Tensor) -> "Batch":
        """Some of the queries, cut to the longest of them."""
        part = Batch(*(getattr(self, f.name)[index] for f in fields(self)))
        for mask, names in (("candidates", ("numbers", "words")), ("names_mask", ("names",)), ("images_mask", ("images",))):
            longest = max(1, int(getattr(part, mask).sum(1).max()))
            for name in (mask, *names):
                setattr(part, name, getattr(part, name)[:, :longest])
        return part


def thin(prototypes: np.ndarray, most: int = MAX_PROTOTYPES) -> np.ndarray:
    """At most ``most`` prototypes, evenly spaced in the task's own order of classes."""
    if len(prototypes) <= most:
        return prototypes
    return prototypes[np.linspace(0, len(prototypes) - 1, most).round().astype(int)]


def _pad(arrays: Sequence[np.ndarray], width: int, dtype: type) -> tuple[Tensor, Tensor]:
    longest = max([1, *map(len, arrays)])
    out = np.zeros((len(arrays), longest, width), dtype)
    mask = np.zeros((len(arrays), longest), bool)
    for i, a in enumerate(arrays):
        out[i, : len(a)], mask[i, : len(a)] = a, True
    return torch.from_numpy(out), torch.from_numpy(mask)


def encode(queries: Sequence[Query], vocabulary: Vocabulary) -> Batch:
    """Tensors of a list of queries; unknown words become index 0, unknown numbers NaN."""
    numbers, words = [], []
    for q in queries:
        numbers.append((ptm_numbers(q) - vocabulary.centre) / vocabulary.scale)
        words.append(np.stack([vocabulary.codes(f, q.candidates[f]) for f in PTM_WORDS], axis=1))
    padded, mask = _pad(numbers, len(PTM_NUMBERS), np.float32)
    tokens = {kind: _pad([thin(q.prototypes.get(kind, np.zeros((0, d)))) for q in queries], d, np.float32)
              for kind, d in EXTRACTORS.items()}
    specs = np.array([[hardware_numbers(q.specs).get(n, np.nan) for n in HARDWARE_NUMBERS] for q in queries], np.float32)
    hardware, _ = _pad([np.array([[vocabulary.index["hardware"].get(w, UNKNOWN)] for w in hardware_words(q.specs)], int).reshape(-1, 1)
                        for q in queries], 1, np.int64)
    return Batch(padded, _pad(words, len(PTM_WORDS), np.int64)[0], mask, *tokens["names"], *tokens["images"],
                 torch.from_numpy(specs), hardware.squeeze(-1))


def priorities_vector(priorities: Mapping[str, object], metrics: Sequence[str] = tuple(METRICS)) -> np.ndarray:
    """Weights as shares that sum to one, in the order of the metrics; only ratios matter to Copeland."""
    weights = np.array([float(priorities.get(m, 0)) for m in metrics])
    return weights / weights.sum()


class PtmTokens(nn.Module):
    """PTM token: a learned part per known PTM plus its traits, so that a PTM never seen in training has one too."""

    def __init__(self, vocabulary: Vocabulary, dim: int, hide: float = 0.3, learned: bool = True, traits: bool = True) -> None:
        super().__init__()
        self.hide, self.learned, self.use_traits = hide, learned, traits
        self.embeddings = nn.ModuleList(nn.Embedding(len(vocabulary.words[f]) + 1, dim, padding_idx=UNKNOWN) for f in PTM_WORDS)
        for e in self.embeddings:
            nn.init.normal_(e.weight, std=0.1)
            e.weight.data[UNKNOWN] = 0
        self.traits = nn.Sequential(nn.Linear(2 * len(PTM_NUMBERS), dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, batch: Batch) -> Tensor:
        """(B, M, dim)."""
        known = ~batch.numbers.isnan()
        out = self.traits(torch.cat([batch.numbers.nan_to_num(), known.float()], -1)) if self.use_traits else 0.0
        for i, (name, embedding) in enumerate(zip(PTM_WORDS, self.embeddings)):
            words = batch.words[..., i]
            if name in PTM_IDENTITY:
                if not self.learned:
                    continue
                if self.training:
                    words = words * (torch.rand(words.shape) >= self.hide)
            elif not self.use_traits:
                continue
            out = out + embedding(words)
        return out


class TaskTokens(nn.Module):
    """µ(T): one token per class prototype, from class names, sample images or both."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.ModuleDict({kind: nn.Linear(d, dim) for kind, d in EXTRACTORS.items()})

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens (B, S, dim) and their mask (B, S)."""
        names, images = self.project["names"](batch.names * 4), self.project["images"](batch.images * 4)
        return torch.cat([names, images], 1), torch.cat([batch.names_mask, batch.images_mask], 1)


class HardwareTokens(nn.Module):
    """Ψh: one token per known specification. Numbers: field embedding + Fourier features of the log value."""

    def __init__(self, vocabulary: Vocabulary, dim: int, frequencies: int = 6, hide: float = 0.1) -> None:
        super().__init__()
        self.hide = hide
        self.field = nn.Parameter(torch.randn(len(HARDWARE_NUMBERS), dim) * 0.1)
        self.register_buffer("frequency", 2.0 ** torch.arange(-2, frequencies - 2) * torch.pi)
        self.value = nn.Linear(2 * frequencies + 1, dim)
        self.words = nn.Embedding(len(vocabulary.words["hardware"]) + 1, dim, padding_idx=UNKNOWN)
        nn.init.normal_(self.words.weight, std=0.1)
        self.words.weight.data[UNKNOWN] = 0

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens (B, H + W, dim) and their mask: False where the data sheet is silent."""
        x = batch.specs.nan_to_num().unsqueeze(-1)  # (B, H, 1)
        waves = x * self.frequency
        numbers = self.value(torch.cat([x, waves.sin(), waves.cos()], -1)) + self.field
        tokens = torch.cat([numbers, self.words(batch.hardware)], 1)
        mask = torch.cat([~batch.specs.isnan(), batch.hardware != UNKNOWN], 1)
        if self.training:  # drop fields at random: the ranker learns to live with half a data sheet
            mask = mask & (torch.rand(mask.shape) >= self.hide)
        return tokens, mask
