"""Transferability scores: how well a pre-trained model suits a labelled task, without fine-tuning it.

One guarded door, :func:`score`; higher is better in every metric. Common code of these metrics fails silently on common
inputs (more features than samples, gaps in the labels, source classes without mass); here each is computed from its
definition. A score ranks models on one task with the same samples and never compares tasks. Models of different feature
width D can be compared by LogME, which integrates the width out, and by LEEP and NCE, not by the H-scores, which grow with D.
"""
from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from sklearn.covariance import ledoit_wolf_shrinkage


class Metric(NamedTuple):
    """``takes``: features (N, D), or probabilities (N, Z) of the source model's classes; classes (N,) are 0..C-1."""
    function: Callable[[np.ndarray, np.ndarray], float]
    takes: str


def _class_sums(rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Sum of the rows (N, D) of each class 0..C-1, none of them empty: (C, D)."""
    order = np.argsort(classes, kind="stable")
    return np.add.reduceat(rows[order], np.searchsorted(classes[order], np.arange(classes.max() + 1)), axis=0)


def _svd(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors (N, k) and squared singular values (k,) above rounding: k is the rank."""
    left, values, _ = np.linalg.svd(features, full_matrices=False)
    keep = values > values[0] * max(features.shape) * np.finfo(float).eps
    if not keep.any():
        raise ValueError("features: all rows are the same, nothing can be told from them")
    return left[:, keep], values[keep] ** 2


def log_me(features: np.ndarray, classes: np.ndarray) -> float:
    r"""LogME: highest log evidence of a Bayesian linear model, per sample, mean over one-against-rest fits.

    The evidence of a 0/1 target t is its density under N(0, I / beta + F F' / alpha) (You et al., ICML 2021). For lambda =
    beta / alpha the best beta has a closed form, which leaves a search in one variable:
    ``1 / beta = (r + sum_k z_k^2 / (1 + lambda s_k)) / N``, with z = U't, s the squared singular values and r the part of
    t't outside the features' span. Only k = rank(F) directions enter, also where D > N. ``inf`` where the features
    determine a target exactly although k < N: that evidence has no bound.
    """
    n = len(features)
    left, s = _svd(features)
    z2, total = _class_sums(left, classes) ** 2, np.bincount(classes)  # (C, k), (C,)
    rest = total - z2.sum(axis=1) if len(s) < n else np.zeros(len(z2))
    if len(s) < n and (rest <= 1e-12 * total).any():
        return float("inf")

    def evidence(log_lambda: np.ndarray, rows: slice) -> np.ndarray:
        scaled = np.exp(log_lambda)[:, None] * s
        noise = (rest[rows, None] + z2[rows] @ (1 / (1 + scaled)).T) / n  # (C, G)
        return -0.5 * (np.log(2 * np.pi * noise) + 1 + np.log1p(scaled).sum(axis=1) / n)

    grid = np.arange(np.log(1e-6 / s.max()), np.log(1e9 / s.min()), 0.5)  # there may be several maxima
    starts = grid[evidence(grid, slice(None)).argmax(axis=1)]
    return float(np.mean([-minimize_scalar(lambda x: -evidence(np.array([x]), slice(c, c + 1)).item(),
                                           bounds=(x0 - 0.5, x0 + 0.5), method="bounded").fun for c, x0 in enumerate(starts)]))


def leep(probabilities: np.ndarray, classes: np.ndarray) -> float:
    """LEEP: mean log-likelihood of the labels under sum_z P(y|z) p(z|x), with P(y|z) read off the same
    p(z|x) of the source model (Nguyen et al., ICML 2020). Source classes without mass play no part."""
    joint = _class_sums(probabilities, classes)  # (C, Z)
    mass = joint.sum(axis=0)
    given = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
    return float(np.log(np.einsum("nz,nz->n", probabilities, given[classes])).mean())


def nce(probabilities: np.ndarray, classes: np.ndarray) -> float:
    """NCE: minus the entropy H(Y|Z) in nats of the label given the source model's most likely class
    (Tran et al., ICCV 2019). From counts, so 0 log 0 = 0 and no constant is added."""
    width = probabilities.shape[1]
    joint = np.bincount(classes * width + probabilities.argmax(axis=1), minlength=(classes.max() + 1) * width)
    source = joint.reshape(-1, width).sum(axis=0)
    return float((xlogy(joint, joint).sum() - xlogy(source, source).sum()) / len(classes))


def _between(features: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances (k,) of the features along principal axes, and the share (k,) of each between classes."""
    centred = features - features.mean(axis=0)
    if np.abs(centred).max() <= 1e-12 * np.abs(features).max():
        raise ValueError("features: all rows are the same, nothing can be told from them")
    left, s = _svd(centred)
    share = (_class_sums(left, classes) ** 2 / np.bincount(classes)[:, None]).sum(axis=0)
    return s / len(features), share


def h_score(features: np.ndarray, classes: np.ndarray) -> float:
    """H-score: trace(cov(F)^-1 cov(E[F|Y])), between 0 and min(C - 1, D) (Bao et al., ICIP 2019)."""
    n, d = features.shape
    if d >= n - 1:
        raise ValueError(f"h_score: with {d} features and only {n} samples it is C - 1 for nearly any model; "
                         "use h_score_regularised, or reduce the features to fewer dimensions")
    return float(_between(features, classes)[1].sum())


def h_score_regularised(features: np.ndarray, classes: np.ndarray) -> float:
    """H-score with the covariance shrunk towards a multiple of the identity by Ledoit and Wolf's weight
    (Ibrahim et al., ECML 2022): (1 - w) trace(((1 - w) cov(F) + w m I)^-1 cov(E[F|Y])); also for D > N."""
    variance, share = _between(features, classes)
    weight, mean = ledoit_wolf_shrinkage(features), variance.sum() / features.shape[1]
    return float((1 - weight) * (share * variance / ((1 - weight) * variance + weight * mean)).sum())


METRICS = {"log_me": Metric(log_me, "features"), "leep": Metric(leep, "source_probs"), "nce": Metric(nce, "source_probs"),
           "h_score": Metric(h_score, "features"), "h_score_regularised": Metric(h_score_regularised, "features")}


def score(metric: str, inputs: np.ndarray, labels: np.ndarray) -> float:
    """Transferability of one model to one task; higher is better. Compare models on the same samples and labels only.

    Parameters
    ----------
    metric : key of :data:`METRICS`
    inputs : features (N, D), or for ``leep`` and ``nce`` the source model's class probabilities (N, Z)
    labels : (N,) class of each sample; any values, also with gaps

    Raises
    ------
    ValueError
        Unknown metric, wrong shapes, a value not finite, fewer than two classes, a class with one sample, rows that are not
        probabilities, features without variation.
    """
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r} is unknown; known: {', '.join(METRICS)}")
    takes = METRICS[metric].takes
    try:
        x = np.asarray(inputs, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{takes}: every value must be a number") from None
    y = np.asarray(labels)
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y) or not x.size:
        raise ValueError(f"{takes} must be (N, D) and labels (N,), N > 0, got {x.shape} and {y.shape}")
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise ValueError(f"{takes}: row {bad.argmax()} holds a value that is not finite")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError(f"labels: row {(~np.isfinite(y)).argmax()} is not finite")
    names, classes, counts = np.unique(y, return_inverse=True, return_counts=True)  # closes gaps in labels
    if len(names) < 2:
        raise ValueError(f"labels: at least 2 classes are needed, all are {names[0]}")
    if counts.min() < 2:
        raise ValueError(f"labels: class {names[counts.argmin()]} has 1 sample, at least 2 are needed")
    if takes == "source_probs":
        sums = x.sum(axis=1)
        bad = (x < 0).any(axis=1) | (np.abs(sums - 1) > 1e-2)
        if bad.any():
            i = bad.argmax()
            raise ValueError(f"{takes}: row {i} is no probability distribution (sum {sums[i]:.4g}, least "
                             f"value {x[i].min():.4g}); give softmax outputs, not logits")
        x = x / sums[:, None]
    return METRICS[metric].function(x, classes)
