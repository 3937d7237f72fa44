"""Figures of domains and results: matplotlib `Figure` objects, made without pyplot: no display needed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from poseda.errors import DataError
from poseda.metrics.statistics import DomainStatistics
from poseda.viz.density import Array, density_levels, smooth_density
from poseda.viz.skeletons import plot_skeletons
from poseda.viz.style import COLOURS, FAINT, LINES, TEXT, head_legend, new_figure, tidy

__all__ = ["plot_bodies", "plot_domain_gap", "plot_skeletons", "plot_stage_bars"]

Groups = Mapping[str, DomainStatistics]

PLACEMENT_LABELS = {
    "scale": "2D scale of the person",
    "root_u": "root, left to right",
    "root_v": "root, top to bottom",
}


def plot_domain_gap(groups: Groups, *, root_map: bool = True, title: str = "", remark: str = "") -> Figure:
    """Size and place of people in the image, one curve a domain, after PoseDA's distribution figure.

    Three smooth histograms in screen-normalised units (2D scale, root u, root v; mean ± std in the legends)
    and, with `root_map`, where in the image the root lies: contours round 50 % and 90 % of the frames.
    """
    _require(groups)
    panels = 3 + root_map
    figure = new_figure(2.9 * panels, 3.3 + 0.16 * len(groups), title, remark)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for panel, (name, label) in zip(axes[:3], PLACEMENT_LABELS.items(), strict=True):
        _draw_densities(panel, {g: _values(s, name) for g, s in groups.items()}, _moments(groups, name))
        tidy(panel, label)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5))  # more would touch in a narrow panel
        head_legend(panel)
    if root_map:
        _draw_root_map(axes[3], groups)
    return figure


def plot_bodies(groups: Groups, *, title: str = "", remark: str = "") -> Figure:
    """View directions, root depth and bone lengths of the domains that have 3D; the others are left out.

    Raises DataError where none has.
    """
    shown = {name: s for name, s in groups.items() if s.bone_lengths is not None}
    _require(shown, "with 3D poses ")
    figure = new_figure(10.2, 6.6, title, remark)
    panels = figure.subplot_mosaic([["yaw", "bones"], ["pitch", "bones"], ["depth", "bones"]], width_ratios=[1.0, 1.05])
    _draw_yaw(panels["yaw"], shown)
    for name, label in (
        ("pitch", "camera above the body's own horizon (degrees)"),
        ("depth", "root depth (m)"),
    ):
        _draw_densities(panels[name], {g: _values(s, name) for g, s in shown.items() if name in s.quantities()}, shown)
        tidy(panels[name], label)
    _draw_bones(panels["bones"], shown)
    return figure


def plot_stage_bars(
    rows: Mapping[str, float | Sequence[float]],
    *,
    metric: str = "MPJPE (mm), lower is better",
    title: str = "",
    protocol: str = "",
    remark: str = "",
) -> Figure:
    """One bar a stage, in order. rows: stage -> value, or a value a seed (mean, whisker of one std, dots).

    Each bar carries its value and its change from the first; `protocol` is the line that says how it was
    computed.
    """
    _require(rows, "of results ")
    foot = "\n".join(line for line in (protocol, remark) if line)
    figure = new_figure(7.6, 1.2 + 0.42 * len(rows) + 0.15 * foot.count("\n"), title, _wrap(foot, 120))
    axes = figure.subplots()
    seeds = [np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in rows.values()]
    means = np.array([s.mean() for s in seeds])
    spreads = np.array([s.std(ddof=1) if len(s) > 1 else 0.0 for s in seeds])
    places = np.arange(len(rows))
    colours = [FAINT, *[COLOURS[0]] * (len(rows) - 1)]
    axes.barh(places, means, color=colours, height=0.62, alpha=0.9)
    for place, values, mean, spread in zip(places, seeds, means, spreads, strict=True):
        _annotate_bar(axes, float(place), values, (float(mean), float(spread)), float(means[0]))
    axes.set_yticks(places, list(rows), fontsize=9, color=TEXT)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25 * float((means + spreads).max()))
    tidy(axes, metric, values=True)
    axes.tick_params(axis="y", length=0, labelsize=9)
    return figure


def _annotate_bar(axes: Axes, place: float, values: Array, moments: tuple[float, float], first: float) -> None:
    """Write a bar's value, spread and change from the first bar beside it, and draw its seeds."""
    mean, spread = moments
    text = f"{mean:.1f}"
    if len(values) > 1:
        axes.errorbar(mean, place, xerr=spread, color=TEXT, capsize=2.5, linewidth=1)
        axes.plot(values, np.full(len(values), place), "o", color="white", markeredgecolor=TEXT, markersize=3.2)
        text += f" ± {spread:.1f}"
    if place > 0:
        sign = "+" if mean > first else ""
        text += f"  ({sign}{_number(mean - first, 1)})"
    axes.annotate(
        text, (max(mean + spread, *values), place), xytext=(6, 0), textcoords="offset points",
        va="center", fontsize=8.5, color=TEXT,
    )  # fmt: skip


def _draw_densities(axes: Axes, curves: Mapping[str, Array], groups: Mapping[str, object]) -> None:
    """One smooth histogram a group; `groups` gives each its colour and the text of its legend entry."""
    if not curves:
        axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", fontsize=9, color=FAINT)
        return
    ends = np.array([np.percentile(v, [0.3, 99.7]) for v in curves.values()])
    margin = 0.12 * max(float(ends[:, 1].max() - ends[:, 0].min()), 1e-6)
    low, high = float(ends[:, 0].min()) - margin, float(ends[:, 1].max()) + margin
    for place, (group, note) in enumerate(groups.items()):
        if group in curves:
            label = f"{group}  {note}" if isinstance(note, str) else group
            _draw_curve(axes, place, label, smooth_density(curves[group], low, high))
    axes.set_xlim(low, high)
    axes.set_ylim(bottom=0)


def _draw_curve(axes: Axes, place: int, label: str, curve: tuple[Array, Array]) -> None:
    colour = COLOURS[place % len(COLOURS)]
    axes.fill_between(*curve, color=colour, alpha=0.13, linewidth=0)
    axes.plot(*curve, color=colour, linestyle=LINES[place % 2], linewidth=1.7, zorder=3 + place % 2, label=label)


def _draw_root_map(axes: Axes, groups: Groups) -> None:
    """Contours of the root's place in the image, upright and to scale, with the image's middle marked."""
    u, v = (np.concatenate([_values(s, name) for s in groups.values()]) for name in ("root_u", "root_v"))
    half = 1.15 * max(1.0 / 1.15, *(float(np.percentile(np.abs(x), 99.5)) for x in (u, v)))
    area = (-half, half, -half, half)
    for place, s in enumerate(groups.values()):
        x, y, density, levels = density_levels(_values(s, "root_u"), _values(s, "root_v"), area, (0.5, 0.9))
        colour = COLOURS[place % len(COLOURS)]
        axes.contourf(x, y, density, levels=[levels[0], np.inf], colors=[colour], alpha=0.12)
        axes.contour(
            x, y, density, levels=sorted(set(levels)), colors=[colour],
            linewidths=[1.0, 1.7], linestyles=[LINES[place % 2]], zorder=3 + place % 2,
        )  # fmt: skip
    for line in (axes.axhline, axes.axvline):
        line(0, color=FAINT, linewidth=0.6, zorder=1)
    axes.set(xlim=(-half, half), ylim=(half, -half), aspect="equal")
    tidy(axes, "root in the image (50 %, 90 %)", values=True)
    ticks = [x for x in (-1.0, -0.5, 0.0, 0.5, 1.0) if abs(x) <= half]
    axes.set(xticks=ticks, yticks=ticks)


def _draw_yaw(axes: Axes, groups: Groups) -> None:
    """Smooth circular histogram of where the camera stands round the body."""
    for place, (group, s) in enumerate(groups.items()):
        _draw_curve(axes, place, group, smooth_density(_values(s, "yaw"), -180.0, 180.0, 360, circular=True))
    axes.set_xlim(-180, 180)
    axes.set_ylim(bottom=0)
    tidy(axes, "where the camera stands round the body")
    axes.set_xticks([-180, -90, 0, 90, 180], ["behind", "right", "in front", "left", "behind"])
    head_legend(axes)


def _draw_bones(axes: Axes, groups: Groups) -> None:
    """Mean bone length with its spread, left and right together, one row a bone and one mark a group."""
    labels: list[str] = []
    for place, s in enumerate(groups.values()):
        lengths = _bones_by_label(s)
        labels += [label for label in lengths if label not in labels]
        shift = (place - (len(groups) - 1) / 2) * min(0.22, 0.7 / len(groups))
        rows = np.array([labels.index(label) for label in lengths]) + shift
        means = [float(values.mean()) for values in lengths.values()]
        spreads = [float(values.std()) for values in lengths.values()]
        axes.errorbar(
            means,
            rows,
            xerr=spreads,
            fmt="o",
            color=COLOURS[place % len(COLOURS)],
            markersize=4.5,
            linewidth=1.4,
        )
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    for row in range(0, len(labels), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F4F4F4", zorder=0)
    tidy(axes, "bone length (mm), mean ± std over frames", values=True)
    axes.tick_params(axis="y", length=0)


def _bones_by_label(s: DomainStatistics) -> dict[str, Array]:
    """Bone lengths of a domain by anatomical name, left and right together."""
    if s.bone_lengths is None:
        return {}
    lengths = s.bone_lengths.detach().cpu().double().numpy()
    return {name.replace("_", " "): lengths[:, list(columns)] for name, columns in s.bone_groups.items()}


def _moments(groups: Groups, name: str) -> dict[str, str]:
    """Return "mean ± std" of one quantity by group."""
    rows = {group: s.summary()[name] for group, s in groups.items()}
    return {group: f"{_number(row['mean'])} ± {_number(row['std'])}" for group, row in rows.items()}


def _number(value: float, digits: int = 2) -> str:
    """Fixed digits with a true minus sign, and no minus before zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _values(s: DomainStatistics, name: str) -> Array:
    values: Tensor = s.quantities()[name]
    return values.detach().cpu().double().numpy()


def _wrap(text: str, width: int) -> str:
    return "\n".join(textwrap.fill(line, width) for line in text.split("\n"))


def _require(groups: Mapping[str, object], what: str = "") -> None:
    if not groups:
        raise DataError(f"There is no group {what}to plot.")
