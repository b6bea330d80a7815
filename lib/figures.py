"""The study's plot style, fixed colours, and the figures and tables that several chapters share."""
from __future__ import annotations

from html import escape
from typing import Any, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

# Okabe and Ito (2008): told apart under every common form of colour blindness.
BLACK, ORANGE, SKY, GREEN, YELLOW = "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#8C8C8C"

#: One colour for each ranker, suite and processor, in every chapter.
PALETTE: dict[str, str] = {
    "Fusion": BLUE, "Shadow": VERMILION, "Model Spider": GREEN, "Boosted trees": ORANGE, "Nearest device": SKY,
    "Mean rank": PURPLE, "FLOPs": "#7A5C3E", "Parameters": "#B8A038", "Random": GREY, "Noise ceiling": BLACK,
    "mcu": ORANGE, "sbc": BLUE, "npu": PURPLE, "latency": GREY,
    "cpu": BLUE, "gpu": GREEN, "dsp": SKY, "fpga": YELLOW, "mixed": GREY,
}
#: One marker for each ranker, so that colour is never the only sign.
MARKERS: dict[str, str] = dict(zip(list(PALETTE)[:10], "osD^vP<>X|"))


def set_style(vector: bool = True) -> None:
    """Apply the study's style to every figure of a notebook.

    Parameters
    ----------
    vector : SVG output, sharp at any size; False gives PNG at twice the resolution (thousands of points).
    """
    sns.set_theme(context="notebook", style="ticks", palette=[BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, GREY])
    plt.rcParams.update({
        "figure.figsize": (7.4, 4.2), "figure.constrained_layout.use": True, "savefig.bbox": "tight",
        "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 11,
        "axes.titlesize": 12, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.labelsize": 11,
        "xtick.labelsize": 10, "ytick.labelsize": 10, "legend.fontsize": 10, "legend.frameon": False,
        "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#555555", "axes.grid": True,
        "grid.color": "#E4E4E4", "grid.linewidth": 0.8, "axes.axisbelow": True, "lines.linewidth": 1.8,
        "svg.hashsalt": "study", "figure.facecolor": "white",
    })
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg" if vector else "retina")
    except (ImportError, AttributeError):  # outside a notebook there is nothing to set
        pass


def number(value: float, digits: int = 2) -> str:
    """A number as pages show it: fixed decimals, thousands separated by a thin space, a true minus."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:,.{digits}f}".replace(",", "\u202f").replace("-", "−")


def interval(estimate: float, low: float, high: float, digits: int = 2) -> str:
    """An estimate with its interval: ``0.87 (0.84 to 0.90)``."""
    return f"{number(estimate, digits)} ({number(low, digits)} to {number(high, digits)})"


def say(**texts: Any) -> None:
    """Glue texts for the prose of a chapter: ``say(tau=interval(...), boards=number(n, 0))``."""
    from myst_nb import glue

    for name, text in texts.items():
        glue(name, str(text), display=False)


def show_table(frame: pd.DataFrame, caption: str, digits: Mapping[str, int] | int = 2,
               labels: Mapping[str, str] | None = None, best: Mapping[str, int] | None = None) -> Any:
    """A small table as accessible HTML: caption, scoped headers, aligned numbers.

    Parameters
    ----------
    frame : columns in the order shown; the index is shown only if it has a name.
    digits : decimals of the float columns, for all or per column.
    labels : column -> heading, with its unit: ``{"latency_ms": "latency (ms)"}``.
    best : column -> +1 or -1, its largest or smallest value is set in bold.
    """
    from IPython.display import HTML

    table = frame.reset_index() if frame.index.name else frame
    columns = []
    for position, column in enumerate(table):
        values = table[column]
        numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        places = digits if isinstance(digits, int) else digits.get(column, 2)
        places = 0 if pd.api.types.is_integer_dtype(values) else places
        texts = [number(v, places) if numeric else "–" if pd.isna(v) else escape(str(v)) for v in values]
        if best and column in best:
            top = (values * best[column]).max() * best[column]
            texts = [f"<strong>{t}</strong>" if v == top else t for t, v in zip(texts, values)]
        kind = ' class="num"' if numeric else ""
        head = f'<th scope="col"{kind}>{escape(str((labels or {}).get(column, column)))}</th>'
        tag, scope = ("th", ' scope="row"') if position == 0 else ("td", "")
        columns.append([head, *(f"<{tag}{scope}{kind}>{t}</{tag}>" for t in texts)])
    head, *body = ("<tr>" + "".join(row) + "</tr>" for row in zip(*columns))
    return HTML(f'<table class="study"><caption>{escape(caption)}</caption>'
                f'<thead>{head}</thead><tbody>{"".join(body)}</tbody></table>')


def plot_intervals(ax: Axes, results: pd.DataFrame, rows: str = "ranker", split: str | None = None,
                   xlabel: str = "", order: Sequence[str] | None = None) -> None:
    """Estimates with intervals, one row each; several splits (such as protocols) lie close together in a row.

    Parameters
    ----------
    results : columns ``estimate, low, high``, `rows`, and `split` if given.
    """
    names = list(order or results.groupby(rows)["estimate"].mean().sort_values(ascending=False).index)
    parts = list(results[split].unique()) if split else [None]
    colours = sns.color_palette(n_colors=len(parts))
    for k, part in enumerate(parts):
        chosen = results if part is None else results[results[split] == part]
        chosen = chosen.set_index(rows).reindex(names)
        height = np.arange(len(names)) + (k - (len(parts) - 1) / 2) * 0.2
        for y, (name, row) in zip(height, chosen.iterrows()):
            colour = colours[k] if split else PALETTE.get(str(name), BLUE)
            ax.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2, solid_capstyle="round")
            marker = "osD^v"[k % 5] if split else MARKERS.get(str(name), "o")
            ax.plot(row["estimate"], y, marker=marker, color=colour, markersize=7)
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel=xlabel, ylim=(len(names) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    if split:
        ax.legend([Line2D([], [], color=c, marker="osD^v"[k % 5]) for k, c in enumerate(colours)], parts,
                  loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(parts))


def plot_bump(ax: Axes, ranks: pd.DataFrame, highlight: Sequence[str] = ()) -> None:
    """How ranks move from column to column; lines that are not highlighted stay grey.

    Parameters
    ----------
    ranks : (items, conditions), rank 1 is best and stands on top.
    """
    colours = dict(zip(highlight, sns.color_palette(n_colors=max(len(highlight), 1))))
    x = np.arange(ranks.shape[1])
    for name, row in ranks.iterrows():
        colour = colours.get(name, "#BBBBBB")
        ax.plot(x, row, marker="o", markersize=6, color=colour, zorder=3 if name in colours else 2)
        ax.annotate(str(name), (x[-1], row.iloc[-1]), xytext=(8, 0), textcoords="offset points", va="center",
                    fontsize=9, color=colour if name in colours else "#555555")
    ax.set(xticks=x, xticklabels=ranks.columns, ylabel="rank", xlim=(-0.2, x[-1] + 0.2))
    ax.invert_yaxis()
    ax.grid(axis="x", visible=False)
