"""A few measurements of one's own adapt a predicted latency profile to the board: a Gaussian process over variants.

Boards differ from the prediction in an overall factor and in which networks they favour. How the second kind of
deviation hangs together (a board slow at depthwise convolutions is slow at all networks made of them) is estimated
from the boards that were measured: the covariance, over boards, of the deviations from the mean profile. Conditioning
on k measured latencies is Gaussian-process regression (Rasmussen and Williams, 2006, eq. 2.25).
"""
from __future__ import annotations

from typing import Sequence

import numpy as np
import pandas as pd

from lib.benchmark import VARIANT, Query, platform_queries
from lib.tokens import ptm_numbers

SPEED = 0.5  # standard deviation of a board's overall factor around the prediction, in decades
NOISE = 0.02  # of one measurement, in decades (5 %)
EXPLAINED = 0.5  # share of the deviations' covariance that is left after the prediction


class FewShot:
    """Covariance of log10 latencies between variants, over the training platforms."""

    def fit(self, queries: Sequence[Query]) -> "FewShot":
        """Estimate the covariance from platforms with figures of several variants; shrunk towards its diagonal."""
        rows = []
        for i, q in enumerate(platform_queries(queries)):
            if "latency" in q.metrics:
                rows.append(q.candidates[VARIANT].assign(platform=i, value=np.log10(q.values["latency_ms"])))
        table = pd.concat(rows).pivot_table(index="platform", columns=VARIANT, values="value", dropna=True)
        table = table.loc[table.notna().sum(axis=1) >= 4, table.notna().sum() >= 5]
        for _ in range(10):  # board factors and the mean profile, with gaps
            table = table.sub(table.mean(axis=1), axis=0)
            profile = table.mean()
            table = table.sub((table - profile).mean(axis=1), axis=0)
        deviations = (table - profile).fillna(0.0)
        filled = table.notna().to_numpy(float)
        pairs = filled.T @ filled
        covariance = deviations.to_numpy().T @ deviations.to_numpy() / np.maximum(pairs, 1)
        trust = pairs / (pairs + 10)
        self.covariance = covariance * np.where(np.eye(len(pairs), dtype=bool), 1, 0.9 * trust)
        self.variants = {key: i for i, key in enumerate(table.columns)}
        self.typical = float(np.median(np.diag(self.covariance))) if len(pairs) else 0.02
        return self

    def kernel(self, query: Query) -> np.ndarray:
        """Prior covariance of the candidates' deviations, (n, n), in squared decades.

        Variants that training never saw share the typical variance with their neighbours in traits.
        """
        index = np.array([self.variants.get(key, -1) for key in query.candidates[VARIANT].itertuples(index=False, name=None)])
        x = np.nan_to_num(ptm_numbers(query)[:, :2])
        near = np.exp(-0.5 * ((x[:, None] - x[None]) ** 2).sum(-1) / 0.3**2)
        family = query.candidates["family"].astype(str).to_numpy()
        k = self.typical * near * np.where(family[:, None] == family[None], 1.0, 0.5)
        known = np.flatnonzero(index >= 0)
        k[np.ix_(known, known)] = self.covariance[np.ix_(index[known], index[known])]
        same = (index[:, None] == index[None]) & (index[:, None] >= 0)
        return EXPLAINED * k + SPEED**2 + 1e-9 * same

    def adapt(self, query: Query, predicted_ms: np.ndarray, measured_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latencies of all candidates given some measured ones.

        Parameters
        ----------
        predicted_ms : (n,) prior prediction
        measured_ms : (n,) NaN where not measured

        Returns
        -------
        (n,) median in ms and (n,) standard deviation in decades
        """
        known = np.flatnonzero(np.isfinite(measured_ms))
        if not len(known):
            return predicted_ms, np.full(len(query), SPEED)
        k, prior = self.kernel(query), np.log10(predicted_ms)
        gain = np.linalg.solve(k[np.ix_(known, known)] + NOISE**2 * np.eye(len(known)), k[known]).T
        mean = prior + gain @ (np.log10(measured_ms[known]) - prior[known])
        variance = np.diag(k) - (gain * k[:, known]).sum(1)
        return 10**mean, np.sqrt(np.maximum(variance, NOISE**2))
