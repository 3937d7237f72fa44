"""Figures: domain gaps, bodies and views, sample skeletons, results by stage."""

from poseda.viz.plots import plot_bodies, plot_domain_gap, plot_skeletons, plot_stage_bars

__all__ = ["plot_bodies", "plot_domain_gap", "plot_skeletons", "plot_stage_bars"]
