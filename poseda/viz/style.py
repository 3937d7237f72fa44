"""The look of every figure: colours that the colour-blind can tell apart, quiet axes, a remark below."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Okabe and Ito's palette, darkest first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Every second group is dashed and drawn on top, so that two curves that agree are both seen.
LINES = ("-", (0, (4, 2)))
LEFT, RIGHT, TRUNK, GHOST = "#0072B2", "#D55E00", "#3A3A3A", "#BDBDBD"
TEXT, FAINT = "#222222", "#8A8A8A"


def new_figure(width: float, height: float, title: str = "", remark: str = "") -> Figure:
    """Return an empty figure of width x height inches, with its title and, at the foot, its remark."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06)
    figure = Figure(figsize=(width, height), dpi=150, layout=layout, facecolor="white")
    if title:
        figure.suptitle(title, fontsize=11, color=TEXT, fontweight="bold")
    if remark:
        figure.supxlabel(remark, fontsize=8, color=FAINT, style="italic")
    return figure


def tidy(axes: Axes, xlabel: str = "", *, values: bool = False) -> None:
    """Leave an axes its lower spine and label; the left spine and ticks only where `values` asks for them."""
    for side in ("top", "right", *(() if values else ("left",))):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(labelsize=8, color=FAINT, labelcolor=TEXT)
    if not values:
        axes.set_yticks([])
    axes.set_xlabel(xlabel, fontsize=9, color=TEXT)


def head_legend(axes: Axes) -> None:
    """Put the legend above an axes, one entry a line, where it can cover nothing."""
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        fontsize=8,
        frameon=False,
        handlelength=2.2,
        labelcolor=TEXT,
    )
