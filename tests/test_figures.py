"""Numbers, tables and colours as readers see them."""
from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from lib import figures


@pytest.mark.parametrize("value, digits, text", [
    (0.874, 2, "0.87"), (-0.5, 1, "−0.5"), (12345.6, 0, "12\u202f346"), (np.nan, 2, "–"), (3, 0, "3"),
])
def test_number(value, digits, text):
    assert figures.number(value, digits) == text


def test_interval():
    assert figures.interval(0.874, 0.84, 0.9) == "0.87 (0.84 to 0.90)"


def test_table_is_accessible_and_escaped():
    frame = pd.DataFrame({"board": ["a<b", None], "latency_ms": [1.234, np.nan], "n": [1, 20000]})
    html = figures.show_table(frame, "Speed & size", labels={"latency_ms": "latency (ms)"}, best={"n": -1}).data
    assert "<caption>Speed &amp; size</caption>" in html
    assert '<th scope="col" class="num">latency (ms)</th>' in html
    assert '<th scope="row">a&lt;b</th><td class="num">1.23</td><td class="num"><strong>1</strong></td>' in html
    assert '<th scope="row">–</th><td class="num">–</td><td class="num">20\u202f000</td>' in html
    assert html.count("<strong>") == 1


def test_rankers_differ_in_colour_and_marker():
    rankers = list(figures.MARKERS)
    assert rankers[0] == "Fusion" and rankers[-1] == "Noise ceiling"
    assert len(set(figures.MARKERS.values())) == len(rankers) == len({figures.PALETTE[r] for r in rankers})


def test_plots_draw_every_row():
    figures.set_style()
    results = pd.DataFrame({"ranker": ["Fusion", "Random"] * 2, "protocol": ["a", "a", "b", "b"],
                            "estimate": [0.5, 0.0, 0.4, 0.1], "low": [0.4, -0.1, 0.3, 0.0], "high": [0.6, 0.1, 0.5, 0.2]})
    fig, (left, right, last) = plt.subplots(1, 3)
    figures.plot_intervals(left, results[results.protocol == "a"])
    assert [t.get_text() for t in left.get_yticklabels()] == ["Fusion", "Random"] and len(left.lines) == 4
    figures.plot_intervals(right, results, split="protocol")
    assert len(right.lines) == 8 and right.get_legend()
    figures.plot_bump(last, pd.DataFrame({"x": [1, 2], "y": [2, 1]}, index=["m", "n"]), highlight=["m"])
    assert len(last.lines) == 2 and last.get_ylim()[0] > last.get_ylim()[1]
    plt.close(fig)
