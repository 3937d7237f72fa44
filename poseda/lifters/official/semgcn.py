"""SemGCN (garyzhao/SemGCN), plain and non-local, also as PoseAug trains it."""

from __future__ import annotations

from poseda.lifters.official.layout import Converter, Layout, Reading


def _read(layout: Layout) -> Reading:
    edges = layout.size("gconv_input.0.gconv.e", 1)
    non_local = any(".nonlocal." in key for key in layout.shapes)
    options = {
        "skeleton": layout.skeleton((edges + 2) // 3),  # a tree of J joints has J - 1 bones: J + 2 (J - 1) scores
        "channels": layout.size("gconv_input.0.gconv.W", 2),
        "blocks": layout.count("gconv_layers.") // (1 + non_local),
        "non_local": non_local,
        "sigma": False,
    }
    return Reading("semgcn", options)


OFFICIAL = Converter(
    repository="garyzhao/SemGCN",
    keys=("gconv_input.", "gconv_layers.", "gconv_output."),
    read=_read,
)
