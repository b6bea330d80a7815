"""Statistics of the research questions: paired effects, mixed models, variance shares, correlations, rooflines.

Rows are never independent: thirty models on one board say one thing about boards. Every function takes the column
whose values are independent (chip, model, data set) and counts those. Intervals are 95 %; p-values are corrected
for the number of tests (Benjamini and Hochberg 1995).
"""
from __future__ import annotations

import warnings
from typing import Callable, Mapping, NamedTuple, Sequence

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from patsy import PatsyError
from scipy import optimize, stats
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lib.evaluation import weighted_tau

MIN_UNITS = 5  # with fewer independent units no interval and no p-value is given


def pair_up(frame: pd.DataFrame, keys: Sequence[str], base: str, other: str, values: Sequence[str],
            by: str = "precision") -> pd.DataFrame:
    """One row per combination of `keys` that has both `base` and `other` in column `by`.

    Unstated keys (NaN) are equal; repeats of one side are averaged. Columns: `keys`, ``<value>_base``, ``<value>_other``.
    """
    left, right = (frame[frame[by] == side].groupby(list(keys), dropna=False)[list(values)].mean() for side in (base, other))
    return left.reset_index().merge(right.reset_index(), on=list(keys), suffixes=("_base", "_other"))


class Effect(NamedTuple):
    """Centre of independent units with interval, p of 'no effect', and how much data it rests on."""
    estimate: float
    low: float
    high: float
    p: float
    units: int
    rows: int


def effect(values: Sequence[float], units: Sequence[object], centre: Callable = np.mean, seed: int = 0, draws: int = 2000) -> Effect:
    """`centre` (mean or median) of unit means: every unit counts once, however many rows it has.

    Percentile bootstrap over units; two-sided signed-rank test (Wilcoxon 1945) of the unit means.
    """
    rows = pd.DataFrame({"value": np.asarray(values, float), "unit": np.asarray(units)}).dropna(subset=["value"])
    means = rows.groupby("unit")["value"].mean().to_numpy()
    estimate, low, high, p = float(centre(means)) if len(means) else np.nan, np.nan, np.nan, np.nan
    if len(means) >= MIN_UNITS:
        picks = np.random.default_rng(seed).integers(len(means), size=(draws, len(means)))
        low, high = np.quantile(centre(means[picks], axis=1), [0.025, 0.975]).tolist()
        p = float(stats.wilcoxon(means).pvalue) if means.any() else 1.0
    return Effect(estimate, low, high, p, len(means), len(rows))


def effects(frame: pd.DataFrame, by: str, value: str, unit: str, **options: object) -> pd.DataFrame:
    """:func:`effect` of every group of `by`, with ``q``, p corrected over the groups."""
    rows = [{by: key} | effect(g[value], g[unit], **options)._asdict() for key, g in frame.groupby(by, sort=False)]
    table = pd.DataFrame(rows, columns=[by, *Effect._fields])
    return table.assign(q=false_discovery(table["p"]))


def leave_one_out(frame: pd.DataFrame, column: str, value: str, unit: str, **options: object) -> pd.DataFrame:
    """The effect from all rows, then without each value of `column`: does a claim hang on one source?"""
    kept = {"nothing": frame} | {name: frame[frame[column] != name] for name in sorted(frame[column].unique())}
    return pd.DataFrame([{"without": k} | effect(f[value], f[unit], **options)._asdict() for k, f in kept.items()])


def false_discovery(p: Sequence[float]) -> np.ndarray:
    """Benjamini-Hochberg adjusted p-values; a NaN is no test and stays NaN."""
    known = np.isfinite(out := np.array(p, float))
    out[known] = stats.false_discovery_control(out[known]) if known.any() else []
    return out


def rank_moves(before: Sequence[float], after: Sequence[float]) -> dict[str, float | bool]:
    """Compare two score vectors (n,) of the same candidates, larger is better; ties share their mean rank.
    ``mean_shift``: places moved; ``tau``: weighted tau, `before` first; ``top_changes``: no candidate is best in both.
    """
    before, after = np.asarray(before, float), np.asarray(after, float)
    shift = np.abs(stats.rankdata(-before) - stats.rankdata(-after))
    top = (before == before.max()) & (after == after.max())
    return {"mean_shift": float(shift.mean()), "tau": weighted_tau(before, after), "top_changes": not top.any()}


def rule_errors(frame: pd.DataFrame, by: str, outcome: str, unit: str) -> pd.Series:
    """Whether the rule 'as most units of this class' is wrong on a row, learnt from all *other* units (bool).

    Each unit has one vote, split by its rows. A class without another unit gets the majority of all; a tie says False.
    """
    cells = frame[outcome].map({True: 1.0, False: -1.0}).groupby([frame[by], frame[unit]]).mean()
    own, classes = pd.MultiIndex.from_frame(frame[[by, unit]]), cells.groupby(level=0)
    others = classes.sum().reindex(frame[by]).to_numpy() - cells.reindex(own).to_numpy()
    overall = cells.sum() - cells.groupby(level=1).sum().reindex(frame[unit]).to_numpy()
    alone = (classes.size() == 1).reindex(frame[by]).to_numpy()
    lead = np.round(np.where(alone, overall, others), 9)  # sums of thirds must not break a tie
    return pd.Series(lead > 0, frame.index) != frame[outcome]


class Crossed(NamedTuple):
    """A fitted mixed model: ``fixed`` (term, estimate, low, high, p), ``variances`` by name, and its residuals."""
    fixed: pd.DataFrame
    variances: pd.Series
    fitted: pd.Series
    residuals: pd.Series


def crossed_model(frame: pd.DataFrame, formula: str, random: Sequence[str]) -> Crossed:
    """Linear mixed model with crossed random intercepts of the columns `random`, by REML (statsmodels ``MixedLM``).

    Raises ValueError if the rows cannot tell the terms of `formula` apart (too few, or a factor with one level).
    """
    try:
        model = smf.mixedlm(formula, frame.assign(everything=1), groups="everything",
                            vc_formula={c: f"0 + C({c})" for c in random})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a variance at zero is an answer, not a failure
            result = model.fit(reml=True)
    except (np.linalg.LinAlgError, PatsyError, ValueError) as error:
        raise ValueError(f"model '{formula}' cannot be fitted to {len(frame)} rows: {error}") from error
    terms = result.fe_params.index
    fixed = result.conf_int().loc[terms].set_axis(["low", "high"], axis=1).rename_axis("term")
    fixed = fixed.assign(estimate=result.fe_params, p=result.pvalues[terms]).reset_index()
    variances = pd.Series([*result.vcomp, result.scale], index=[*model.exog_vc.names, "residual"])
    return Crossed(fixed, variances, result.fittedvalues, result.resid)


def two_way(frame: pd.DataFrame, value: str, row: str, column: str) -> tuple[pd.Series, pd.Series, np.ndarray]:
    """Additive effects of `row` and of `column`, each with mean zero and adjusted for the other; residuals (n,)."""
    codes, names = zip(*(pd.factorize(frame[c], sort=True) for c in (row, column)))
    design = np.hstack([np.eye(len(n))[c] for c, n in zip(codes, names)])
    y = frame[value].to_numpy(float) - frame[value].mean()
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    rows, columns = pd.Series(beta[:len(names[0])], names[0]), pd.Series(beta[len(names[0]):], names[1])
    return rows - rows.mean(), columns - columns.mean(), y - design @ beta


def variance_components(frame: pd.DataFrame, value: str, row: str, column: str) -> dict[str, float]:
    """Variances of row, column and rest by Henderson's method 3 (1953): unbiased in unbalanced tables."""
    squares = (two_way(frame, value, row, column)[2] ** 2).sum()
    levels, cells = {c: frame[c].nunique() for c in (row, column)}, frame.groupby([row, column]).size()
    rest = squares / max(len(frame) - sum(levels.values()) + 1, 1)
    out = {}
    for this, that in ((row, column), (column, row)):
        within = ((frame[value] - frame.groupby(that)[value].transform("mean")) ** 2).sum()
        weight = len(frame) - ((cells ** 2).groupby(level=that).sum() / cells.groupby(level=that).sum()).sum()
        out[this] = max((within - squares - (levels[this] - 1) * rest) / weight, 0.0) if weight > 0 else 0.0
    return out | {"rest": float(rest)}


def variance_shares(frame: pd.DataFrame, value: str, row: str, column: str, noise: float = 0.0, draws: int = 200,
                    seed: int = 0) -> pd.DataFrame:
    """Shares in % of row, column, interaction and noise (the known variance of repeats), with intervals.

    Rows and columns are both drawn anew, copies as levels of their own (pigeonhole bootstrap, Owen 2007).
    """
    def shares(table: pd.DataFrame) -> list[float]:
        v = variance_components(table, value, row, column)
        parts = [v[row], v[column], max(v["rest"] - noise, 0.0), min(noise, v["rest"])]
        return [100 * p / sum(parts) for p in parts]

    rng, drawn = np.random.default_rng(seed), []
    for _ in range(draws):
        table = frame
        for c in (row, column):
            names = frame[c].unique()
            copies = pd.DataFrame({c: rng.choice(names, len(names)), "copy": range(len(names))})
            table = table.merge(copies, on=c).drop(columns=c).rename(columns={"copy": c})
        if len(table) > table[row].nunique() + table[column].nunique():
            drawn.append(shares(table))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return pd.DataFrame({"part": [row, column, "interaction", "noise"], "share": shares(frame), "low": low, "high": high})


def rank_correlations(frame: pd.DataFrame, target: str, columns: Sequence[str], given: Sequence[str] = ()) -> pd.DataFrame:
    """Spearman's rho of `target` with each column, and what is left when the ranks of `given` are held; a row is a unit.
    Interval by Fieller, Hartley and Pearson (1957); q is corrected over the columns.
    """
    out = []
    for column in columns:
        controls = [g for g in given if g != column]
        known = frame[[target, column, *controls]].dropna()
        n, k = len(known), len(controls)
        if n < k + 2 * MIN_UNITS or known[column].nunique() < 3:
            continue
        ranks = known.rank().to_numpy()
        design = np.column_stack([np.ones(n), ranks[:, 2:]])
        rest = ranks[:, :2] - design @ np.linalg.lstsq(design, ranks[:, :2], rcond=None)[0]
        rho, partial = (float(np.clip(np.corrcoef(x.T)[0, 1], -0.999999, 0.999999)) for x in (ranks[:, :2], rest))
        half, freedom = 1.96 * np.sqrt(1.06 / (n - k - 3)), n - 2 - k
        p = 2 * stats.t.sf(abs(partial) * np.sqrt(freedom / (1 - partial ** 2)), freedom)
        low, high = np.tanh(np.arctanh(partial) + np.array([-half, half]))
        out.append((column, n, rho, partial, low, high, float(p)))
    table = pd.DataFrame(out, columns=["column", "n", "rho", "partial", "low", "high", "p"])
    return table.assign(q=false_discovery(table["p"]))


class Roofline(NamedTuple):
    """What a processor reached: GMAC/s, GB/s, and the milliseconds that every inference costs."""
    gmacs: float
    gbs: float
    overhead_ms: float
    error: float  # median relative error of the fit

    def memory_share(self, macs_m: np.ndarray, traffic_mb: np.ndarray) -> np.ndarray:
        """Memory's share of the time spent on arithmetic and memory, (n,) in 0 .. 1."""
        compute, memory = np.asarray(macs_m) / self.gmacs, np.asarray(traffic_mb) / self.gbs
        return memory / (compute + memory)


def fit_roofline(macs_m: Sequence[float], traffic_mb: Sequence[float], latency_ms: Sequence[float]) -> Roofline:
    """Fit ``latency = MACs / gmacs + traffic / gbs + overhead``, all parts >= 0, by relative least squares.

    The sum replaces the maximum of Williams et al. (2009): convex, and at most a factor of two off at the ridge.
    """
    parts, latency = np.column_stack([macs_m, traffic_mb, np.ones(len(macs_m))]).astype(float), np.asarray(latency_ms, float)
    cost, _ = optimize.nnls(parts / latency[:, None], np.ones(len(latency)))
    rates = [1 / c if c > 0 else np.inf for c in cost[:2]]
    return Roofline(*rates, float(cost[2]), float(np.median(np.abs(parts @ cost / latency - 1))))


def grouped_predictions(frame: pd.DataFrame, target: str, unit: str, numeric: Sequence[str],
                        categorical: Sequence[str] = (), regressor: object = None, seed: int = 0) -> np.ndarray:
    """Out-of-fold predictions of `target`, (n,), by a scikit-learn `regressor` (default: a ridge regression).

    Five folds, no unit on both sides. Missing numbers become the median with a flag; words are one-hot, rare ones pooled.
    """
    fill = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    words = OneHotEncoder(handle_unknown="ignore", min_frequency=5, sparse_output=False)
    columns = make_column_transformer((make_pipeline(fill, StandardScaler()), list(numeric)), (words, list(categorical)))
    model = make_pipeline(columns, regressor or RidgeCV(np.logspace(-3, 3, 7)))
    table = frame.assign(**{c: frame[c].fillna("unknown").astype(str) for c in categorical})
    folds = GroupKFold(min(5, frame[unit].nunique()), shuffle=True, random_state=seed)
    return cross_val_predict(model, table, table[target], groups=table[unit], cv=folds)


def prediction_scores(frame: pd.DataFrame, target: str, predicted: str, by: str, bounds: Mapping[str, float]) -> pd.DataFrame:
    """Quality of predicted log2 figures, one row per value of `by`.

    ``factor``: 2 to the median absolute error (1 is perfect); ``tau``: weighted tau, smaller figures ranked first; and
    the share in % within each of `bounds` (name -> factor).
    """
    out = []
    for key, rows in frame.groupby(by):
        truth, guess = rows[target], rows[predicted]
        error = (guess - truth).abs()
        within = {name: 100 * (error <= np.log2(bound)).mean() for name, bound in bounds.items()}
        out.append({by: key, "factor": 2 ** error.median(), "tau": weighted_tau(-truth, -guess), **within})
    return pd.DataFrame(out)
