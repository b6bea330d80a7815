"""Why a recommendation: attention of every token, checked by occlusion, because attention alone is no evidence.
Occlusion drops one token from the context. Only differences between candidates rank, so scores are centred first.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Mapping

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from lib.benchmark import Query
from lib.fusion import Fusion
from lib.tokens import EXTRACTORS, HARDWARE_NUMBERS, Batch, encode, hardware_words, priorities_vector


def token_names(query: Query, batch: Batch) -> list[tuple[str, str]]:
    """(kind, name) of every place of Fusion's context, in order; fields that the sheet does not state included."""
    classes = [("task", f"{kind} {i + 1}") for kind in EXTRACTORS for i in range(getattr(batch, f"{kind}_mask").shape[1])]
    hardware = [("hardware", n) for n in (*HARDWARE_NUMBERS, *(hardware_words(query.specs) or ["none"]))]
    return [*classes, *hardware, ("priorities", "priorities")]


def explain(ranker: Fusion, query: Query, priorities: Mapping[str, object], candidate: int | None = None) -> pd.DataFrame:
    """Attention and occlusion of every known token of a query.

    Parameters
    ----------
    candidate : row of the query that is explained; by default the recommended one.

    Returns
    -------
    DataFrame
        ``kind, token, attention`` (of the candidate, mean over heads; what it gives to itself is left out), ``change``
        (of its score when the token is dropped, scores centred over the candidates) and ``effect`` (root mean square
        change over all candidates), strongest effect first.

    Raises
    ------
    ValueError
        The ranker is not trained, or there is no such candidate.
    """
    if ranker.module is None or ranker.vocabulary is None:
        raise ValueError("Fusion is not trained: call fit() or load() first")
    if candidate is not None and not 0 <= candidate < len(query):
        raise ValueError(f"candidate {candidate} does not exist (allowed: 0 to {len(query) - 1})")
    network, batch = ranker.module.eval(), encode([query], ranker.vocabulary)
    weights = torch.from_numpy(np.asarray(priorities_vector(priorities), np.float32)).reshape(1, -1)
    with torch.inference_mode():
        ptm, (context, mask) = network.ptm(batch), network.context(batch, weights)

        def scores(keep: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
            states, attention = network.block(ptm, context, keep)
            out = network.score(states, batch, weights)[0, :, 0].double().numpy()
            return out - out.mean(), attention

        base, attention = scores(mask)
        chosen = int(base.argmax()) if candidate is None else candidate
        looked = attention[0, :, chosen, 1:].mean(0).numpy()
        rows = []
        for i, (kind, name) in enumerate(token_names(query, batch)):
            if mask[0, i]:
                keep = mask.clone()
                keep[0, i] = False
                change = scores(keep)[0] - base
                rows.append((kind, name, float(looked[i]), float(change[chosen]), float(np.sqrt((change**2).mean()))))
    table = pd.DataFrame(rows, columns=["kind", "token", "attention", "change", "effect"])
    return table.sort_values("effect", ascending=False, kind="stable").reset_index(drop=True)


def agreement(table: pd.DataFrame) -> float:
    """Spearman's rho between attention and the size of the occlusion effect; NaN with fewer than three tokens."""
    return float(spearmanr(table["attention"], table["effect"]).statistic) if len(table) > 2 else float("nan")


def without(query: Query, fields: set[str]) -> Query:
    """The same query with some fields of the data sheet unknown."""
    return replace(query, specs={k: v for k, v in query.specs.items() if k not in fields})
