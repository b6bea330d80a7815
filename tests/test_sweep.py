"""The sweep resumes, writes whole tables only, and its intervals count groups, not rows."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib import sweep
from lib.baselines import BASELINES
from tests.helpers_queries import grid

CHEAP = {"FLOPs": BASELINES["FLOPs"], "Random": BASELINES["Random"]}


def run(folder, rankers=CHEAP):
    return sweep.run("toy", rankers, grid(6, 2), [], "unseen_device", {"fast": {"latency": 1}}, folder, (0,), 3, 1)


def test_a_finished_table_is_not_computed_again(tmp_path) -> None:
    path = run(tmp_path)
    stamp, log = path.stat().st_mtime_ns, (tmp_path / "runs.csv").read_text()
    run(tmp_path, {})  # no rankers: would fail if it ran
    assert path.stat().st_mtime_ns == stamp and (tmp_path / "runs.csv").read_text() == log
    assert pd.read_csv(tmp_path / "runs.csv").loc[0, "queries"] == 12


def test_an_interrupted_run_leaves_no_table(tmp_path) -> None:
    class Broken:
        def fit(self, queries):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, {"Broken": lambda seed: Broken()})
    assert list(tmp_path.iterdir()) == []


def test_tables_hold_means_of_groups(tmp_path) -> None:
    table = pd.read_csv(run(tmp_path))
    assert set(table["group"]) == {"soc0", "soc1", "soc2"}
    assert (table["queries"] == 4).all()
    out = sweep.intervals(table).set_index("ranker")
    means = table[table["ranker"] == "FLOPs"].groupby("group")["tau"].mean()
    assert out.loc["FLOPs", "estimate"] == pytest.approx(means.mean())
    assert out.loc["FLOPs", "groups"] == 3 and out.loc["FLOPs", "queries"] == 12
    assert out.loc["FLOPs", "low"] >= means.min() - 1e-9 and out.loc["FLOPs", "high"] <= means.max() + 1e-9


def test_paired_differences_and_their_p_values() -> None:
    rng = np.random.default_rng(0)
    groups = [f"g{i}" for i in range(20)]
    base = rng.normal(0, 0.3, 20)
    table = pd.concat([pd.DataFrame({"ranker": r, "group": groups, "suite": s, "tau": base + shift + rng.normal(0, 0.02, 20)})
                       for s, gap in (("a", 0.1), ("b", 0.0)) for r, shift in (("one", gap), ("two", 0.0))])
    out = sweep.paired(table, "one", "two", ("suite",)).set_index("suite")
    assert out.loc["a", "estimate"] == pytest.approx(0.1, abs=0.02) and out.loc["a", "p"] < 0.001
    assert out.loc["b", "p"] > 0.05 and out.loc["b", "low"] < 0 < out.loc["b", "high"]


def test_winners_name_the_best_and_say_whether_it_is_clear() -> None:
    rows = [{"ranker": r, "suite": s, "group": f"g{i}", "tau": base + (i % 2) * 0.3 * (r == "near") - 0.15 * (r == "near"), "seed": 0, "priorities": "p", "queries": 1}
            for s in "ab" for i in range(12) for r, base in (("best", 0.5), ("near", 0.49 if s == "a" else 0.1), ("far", 0.0))]
    found = sweep.winners(pd.DataFrame(rows), ("suite",)).set_index("suite")
    assert found["first"].tolist() == ["best", "best"] and found["second"].tolist() == ["near", "near"]
    assert found.loc["a", "low"] < 0 < found.loc["b", "low"] and found.loc["b", "gap"] == pytest.approx(0.4)


def test_critical_difference_equals_the_published_table() -> None:
    table = pd.DataFrame([{"ranker": r, "group": g, "tau": v} for g in range(14) for r, v in zip("abcd", (0.9, 0.8, 0.7, 0.6))])
    ranks, critical = sweep.mean_ranks(table)
    assert ranks.to_dict() == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert critical == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)  # Demsar's example: four classifiers, 14 data sets


def test_a_missing_table_names_the_command() -> None:
    with pytest.raises(ValueError, match="python -m lib.sweep --only nothing"):
        sweep.load("nothing")


def test_a_learning_curve_trains_on_whole_chips_and_on_more_of_them() -> None:
    class Listener:
        def fit(self, queries):
            self.chips = {q.soc for q in queries}
            self.rows = len(queries)

    seen = []
    for share in (0.1, 0.5, 1.0):
        ranker = sweep.FewerChips(Listener(), share).fit(grid(20, 2))
        seen.append(ranker.ranker.chips)
        assert ranker.ranker.rows == 4 * len(ranker.ranker.chips)  # two boards with two tasks on every chip
    assert [len(chips) for chips in seen] == [4, 5, 10] and seen[0] < seen[1] < seen[2]
