"""Transferability scores against exact formulas, and the published table that they were compared in."""
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import multivariate_normal, weightedtau
from sklearn.covariance import LedoitWolf

from lib import paths
from lib.transferability import METRICS, score

SIZES = [(40, 6), (25, 25), (20, 60)]  # N > D, N = D, N < D
FEATURE_METRICS = [name for name, metric in METRICS.items() if metric.takes == "features"]


def task(n, d, n_classes=3, seed=0, signal=1.0):
    """Features (n, d) whose classes differ in their mean, labels (n,) with each class at least twice."""
    rng = np.random.default_rng(seed)
    twice = np.repeat(np.arange(n_classes), 2)
    labels = np.concatenate([twice, rng.integers(0, n_classes, n - len(twice))])
    return signal * rng.normal(size=(n_classes, d))[labels] + rng.normal(size=(n, d)) + 0.3, labels


def source(n, z, seed=0, sharp=2.0):
    return softmax(sharp * np.random.default_rng(seed).normal(size=(n, z)), axis=1)


# ------------------------------------------------------------------------------ LogME
@pytest.mark.parametrize("n, d", SIZES)
def test_log_me_is_the_maximum_of_the_gaussian_log_density(n, d):
    features, labels = task(n, d)
    kernel, values = features @ features.T, []
    for c in range(3):
        target = (labels == c).astype(float)

        def loss(log):
            covariance = np.exp(-log[1]) * np.eye(n) + np.exp(-log[0]) * kernel
            return -multivariate_normal(cov=covariance, allow_singular=True).logpdf(target)
        options = {"xatol": 1e-6, "fatol": 1e-9}
        values.append(-min(minimize(loss, start, method="Nelder-Mead", options=options).fun
                           for start in ([0, 0], [4, 3], [8, 1])) / n)
    assert score("log_me", features, labels) == pytest.approx(np.mean(values), abs=1e-5)


@pytest.mark.parametrize("n, d", SIZES)
def test_log_me_agrees_with_its_fixed_point_iteration(n, d):
    """MacKay's update as published, with log|A| over all D directions."""
    features, labels = task(n, d, seed=3)
    values = []
    for c in range(3):
        t, alpha, beta = (labels == c).astype(float), 1.0, 1.0
        for _ in range(5000):
            a = alpha * np.eye(d) + beta * features.T @ features
            m = beta * np.linalg.solve(a, features.T @ t)
            gamma = d - alpha * np.trace(np.linalg.inv(a))
            alpha, beta = gamma / (m @ m), (n - gamma) / ((t - features @ m) ** 2).sum()
            if beta > 1e8:
                break
        a = alpha * np.eye(d) + beta * features.T @ features
        m = beta * np.linalg.solve(a, features.T @ t)
        misfit = beta * ((t - features @ m) ** 2).sum() + alpha * m @ m
        prior = n * np.log(beta / 2 / np.pi) + d * np.log(alpha)
        values.append((prior - misfit - np.linalg.slogdet(a)[1]) / 2 / n)
    got = score("log_me", features, labels)
    assert got >= np.mean(values) - 1e-9  # a stationary point never lies above the maximum
    if n > d:
        assert got == pytest.approx(np.mean(values), abs=1e-6)


def test_log_me_does_not_reward_width_by_itself():
    """The widespread fixed-point code loses (D - k) / 2N log alpha here and gives about +15."""
    labels = np.arange(100) % 4
    noise = np.random.default_rng(0).normal(size=(100, 512))
    assert -0.8 < score("log_me", noise, labels) < -0.4
    assert score("log_me", task(100, 512, 4)[0], task(100, 512, 4)[1]) > score("log_me", noise, labels) + 0.3


def test_log_me_ignores_directions_that_are_rounding_alone():
    features, labels = task(60, 5, seed=7)
    repeated = np.hstack([features, features @ np.random.default_rng(0).normal(size=(5, 5))])  # rank 5 of 10
    gram = repeated @ repeated.T
    five = np.linalg.eigh(gram)
    exact = five[1][:, -5:] * np.sqrt(five[0][-5:])  # same F F', five columns
    assert score("log_me", repeated, labels) == pytest.approx(score("log_me", exact, labels), abs=1e-9)


def test_log_me_is_infinite_where_the_evidence_has_no_bound():
    labels = np.arange(12) % 3
    assert score("log_me", np.eye(3)[labels], labels) == np.inf


# ------------------------------------------------------------------------- LEEP and NCE
def test_leep_of_a_table_computed_by_hand():
    """P(y, z) = [[.5, 0], [.15, .35]] of 4 samples, so P(y|z) = [[10/13, 0], [3/13, 1]]."""
    probabilities = np.array([[1.0, 0], [1, 0], [0.4, 0.6], [0.2, 0.8]])
    want = np.mean(np.log([10 / 13, 10 / 13, 0.4 * 3 / 13 + 0.6, 0.2 * 3 / 13 + 0.8]))
    assert score("leep", probabilities, [0, 0, 1, 1]) == pytest.approx(want, rel=1e-12)


def test_nce_of_a_table_computed_by_hand():
    """Counts [[2, 1], [0, 3]]: H(Y|Z) = (2 * 0 + 4 * H(1/4)) / 6."""
    probabilities = np.eye(2)[[0, 0, 1, 1, 1, 1]] * 0.6 + 0.2
    want = 4 / 6 * (0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert score("nce", probabilities, ["a", "a", "a", "b", "b", "b"]) == pytest.approx(want, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.floats(0.1, 8))
def test_bounds_of_leep_and_nce(seed, width, sharp):
    """LEEP >= minus the soft conditional entropy (Jensen) >= -H(Y), and LEEP <= 0; NCE lies in [-H(Y), 0]."""
    _, labels = task(30, 2, seed=seed)
    probabilities = source(30, width, seed, sharp)
    joint = np.stack([probabilities[labels == c].sum(axis=0) for c in range(3)]) / 30
    soft = (joint * np.log(joint / joint.sum(axis=0))).sum()
    share = np.bincount(labels) / 30
    low = (share * np.log(share)).sum()
    assert low - 1e-12 <= soft <= score("leep", probabilities, labels) + 1e-12 <= 1e-11
    assert low - 1e-12 <= score("nce", probabilities, labels) <= 1e-12


def test_leep_never_beats_the_best_conditional_table():
    """Its P(y|z) is one of the tables over which expectation maximisation finds the most likely."""
    _, labels = task(60, 2, seed=5)
    probabilities, table = source(60, 4, 5), np.random.default_rng(0).random((3, 4)) + 3
    for _ in range(3000):
        posterior = probabilities * table[labels]
        posterior /= posterior.sum(axis=1, keepdims=True)
        table = np.stack([posterior[labels == c].sum(axis=0) for c in range(3)])
        table /= table.sum(axis=0)
    best = np.log((probabilities * table[labels]).sum(axis=1)).mean()
    assert score("leep", probabilities, labels) < best < 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_leep_equals_nce_for_a_source_that_is_certain(seed):
    rng = np.random.default_rng(seed)
    _, labels = task(30, 2, seed=seed)
    certain = np.eye(7)[rng.integers(0, 5, 30)]  # two source classes never occur
    assert score("leep", certain, labels) == pytest.approx(score("nce", certain, labels), abs=1e-12)


@pytest.mark.parametrize("metric", ["leep", "nce"])
def test_source_classes_without_mass_change_nothing(metric):
    _, labels = task(40, 2)
    probabilities = source(40, 5)
    wider = np.insert(probabilities, [0, 3, 5], 0.0, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(metric, wider, labels) == pytest.approx(score(metric, probabilities, labels), abs=1e-13)


def test_probabilities_of_half_precision_are_scaled_to_sum_to_one():
    _, labels = task(40, 2)
    probabilities = source(40, 5)
    assert score("leep", 1.004 * probabilities, labels) == pytest.approx(score("leep", probabilities, labels))


# ---------------------------------------------------------------------------- H-score
def test_h_score_is_the_trace_of_its_definition():
    features, labels = task(50, 7)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(3)])[labels]
    want = np.trace(np.linalg.solve(np.cov(features.T, bias=True), np.cov(means.T, bias=True)))
    assert score("h_score", features, labels) == pytest.approx(want, rel=1e-10)
    assert 0 < want < 2


def test_h_score_of_one_feature_is_the_share_of_variance_between_classes():
    features, labels = np.array([[0.0], [2], [4], [6]]), [0, 0, 1, 1]  # variance 5, class means 1 and 5
    assert score("h_score", features, labels) == pytest.approx(4 / 5)


def test_h_score_is_unchanged_by_an_affine_map_and_by_copied_features():
    features, labels = task(50, 5)
    rng = np.random.default_rng(1)
    want, weak = score("h_score", features, labels), np.logspace(0, -6, 5)
    mapped = features @ rng.normal(size=(5, 5)) * weak + 9
    assert score("h_score", mapped, labels) == pytest.approx(want, rel=1e-9)
    assert score("h_score", np.hstack([features, features]), labels) == pytest.approx(want, rel=1e-9)


def test_h_score_refuses_where_it_would_saturate():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="29 features and only 30 samples .* use h_score_regularised"):
        score("h_score", rng.normal(size=(30, 29)), np.arange(30) % 3)
    noise, (features, labels) = rng.normal(size=(60, 200)), task(60, 200, seed=2)
    assert score("h_score_regularised", noise, labels) < score("h_score_regularised", features, labels) < 2


@pytest.mark.parametrize("n, d", SIZES)
def test_regularised_h_score_uses_the_ledoit_wolf_covariance(n, d):
    features, labels = task(n, d, seed=1)
    shrunk = LedoitWolf().fit(features)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(3)])[labels]
    between = (1 - shrunk.shrinkage_) * np.cov(means.T, bias=True)
    want = np.trace(np.linalg.solve(shrunk.covariance_, between))
    assert score("h_score_regularised", features, labels) == pytest.approx(want, rel=1e-9)


def test_the_two_ends_of_the_shrinkage():
    square = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])  # its covariance is the identity
    assert score("h_score_regularised", square, [0, 0, 1, 1]) == pytest.approx(1)
    assert score("h_score_regularised", [[0], [2], [4], [6]], [0, 0, 1, 1]) == pytest.approx(4 / 5)
    heavy = np.random.default_rng(1).standard_t(1.5, size=(12, 6))  # outliers rule it
    assert LedoitWolf().fit(heavy).shrinkage_ == 1
    assert score("h_score_regularised", heavy, np.arange(12) % 2) == 0


# ------------------------------------------------------------------------- invariances
@pytest.mark.parametrize("metric", METRICS)
def test_order_of_samples_and_names_of_classes_do_not_matter(metric):
    features, labels = task(50, 6)
    inputs = features if metric in FEATURE_METRICS else source(50, 6)
    want, order = score(metric, inputs, labels), np.random.default_rng(0).permutation(50)
    assert score(metric, inputs[order], labels[order]) == pytest.approx(want, abs=1e-9)
    for names in ([2, 0, 1], [0, 5, 90], ["b", "a", "c"], [-1.0, 0.5, 7.0]):  # also gaps
        assert score(metric, inputs, np.array(names)[labels]) == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("metric", ["log_me", "h_score_regularised"])
@pytest.mark.parametrize("n, d", SIZES)
def test_rotation_and_scale_of_the_features_do_not_matter(metric, n, d):
    features, labels = task(n, d)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0]
    want = score(metric, features, labels)
    assert score(metric, features @ rotation, labels) == pytest.approx(want, abs=1e-7)
    assert score(metric, 1000 * features, labels) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_more_signal_scores_higher_and_single_precision_is_enough(metric):
    scores = []
    for signal in (0.0, 0.5, 2.0):
        features, labels = task(300, 10, seed=4, signal=signal)
        inputs = features if metric in FEATURE_METRICS else softmax(features, axis=1)
        scores.append(score(metric, inputs, labels))
        assert score(metric, inputs.astype(np.float32), labels) == pytest.approx(scores[-1], abs=1e-4)
    assert scores[0] < scores[1] < scores[2]


# --------------------------------------------------------------------------- the guard
GOOD = np.random.default_rng(0).normal(size=(6, 3))


@pytest.mark.parametrize("metric, inputs, labels, words", [
    ("logme", GOOD, [0, 0, 0, 1, 1, 1], "metric 'logme' is unknown; known: log_me, leep"),
    ("log_me", GOOD, [0, 0, 1, 1, 1], r"\(6, 3\) and \(5,\)"),
    ("log_me", GOOD[:, 0], [0, 0, 0, 1, 1, 1], r"features must be \(N, D\)"),
    ("log_me", GOOD[:0], [], r"N > 0"),
    ("log_me", [["x"], ["y"]], [0, 1], "every value must be a number"),
    ("log_me", np.where(np.arange(18).reshape(6, 3) == 7, np.nan, GOOD), [0, 0, 0, 1, 1, 1], "row 2 holds a"),
    ("log_me", np.where(np.arange(18).reshape(6, 3) == 9, np.inf, GOOD), [0, 0, 0, 1, 1, 1], "row 3 holds a"),
    ("log_me", GOOD, [0, 0, np.nan, 1, 1, 1], "labels: row 2 is not finite"),
    ("h_score_regularised", GOOD, [4] * 6, "at least 2 classes are needed, all are 4"),
    ("h_score_regularised", GOOD, [0, 0, 0, 1, 1, 9], "class 9 has 1 sample"),
    ("h_score", np.full((6, 3), 0.1), [0, 0, 0, 1, 1, 1], "all rows are the same"),
    ("log_me", np.zeros((6, 3)), [0, 0, 0, 1, 1, 1], "all rows are the same"),
    ("leep", GOOD, [0, 0, 0, 1, 1, 1], "no probability distribution .*; give softmax outputs, not logits"),
    ("leep", [[1.2, -0.2], [1, 0], [1, 0], [0, 1]], [0, 0, 1, 1], "row 0 is no .* least value -0.2"),
    ("nce", np.ones((6, 3)), [0, 0, 0, 1, 1, 1], "row 0 is no probability distribution .sum 3, least"),
])
def test_bad_input_is_refused_in_one_line(metric, inputs, labels, words):
    with pytest.raises(ValueError, match=words) as error:
        score(metric, inputs, labels)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- the published table
def test_published_weighted_tau_follows_from_the_published_scores():
    """Model Spider's table: weighted tau, the accuracies first. 69 of 72 cells agree to the third decimal."""
    facts = paths.FACTS / "transfer"
    accuracies = pd.read_csv(facts / "accuracies.csv")
    zoo = accuracies[accuracies.source_ref == "learnware/learnware_info.py DATA_SPECIFIC_RANK"]
    truth = zoo.set_index(["target_dataset", "model_id"]).value
    scores = pd.read_csv(facts / "transferability_scores.csv")
    scores = scores.replace({"metric": {"PACTranDirichlet": "PACTran"}})  # the table's name of that column
    published = pd.read_csv(facts / "model_spider_weighted_tau.csv").set_index(["method", "dataset"])
    published = published.weighted_tau
    differ = {}
    for (method, dataset), rows in scores.groupby(["metric", "dataset"]):
        assert len(rows) == 10
        accuracy = truth[dataset][rows.model_id].to_numpy()
        tau = weightedtau(accuracy, rows.score.to_numpy(), rank=None).statistic
        if abs(tau - published[method, dataset]) > 0.000501:  # half of the last printed digit
            differ[method, dataset] = round(float(tau), 3)
    assert scores.groupby(["metric", "dataset"]).ngroups == 72
    assert differ == {("LEEP", "fgvc_aircraft"): 0.221, ("NLEEP", "fgvc_aircraft"): -0.766,
                      ("LogME", "fgvc_aircraft"): 0.552}
