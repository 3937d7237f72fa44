"""MotionAGFormer (TaatiTeam/MotionAGFormer), XS to L, trained on Human3.6M."""

from __future__ import annotations

from poseda.lifters.official.layout import CONFIDENCE, HEADS, IMAGE, SCALE, Converter, Layout, Reading


def graph_options(layout: Layout) -> dict[str, object]:
    """Options that MotionAGFormer and HoT on it read from the same weights."""
    return {
        "skeleton": layout.skeleton(layout.size("pos_embed", 1)),
        "frames": layout.size("layers.0.graph_temporal.mixer.batch_norm.weight", 0),
        "layers": layout.count("layers."),
        "dim": layout.size("pos_embed", 2),
        "mlp_ratio": layout.ratio("layers.0.att_spatial.mlp.fc1.weight", "pos_embed"),
        "dim_rep": layout.size("head.weight", 1),
        "units": "image",
        "sigma": False,
    }


def _read(layout: Layout) -> Reading:
    if "min_p1" in layout.beside:
        raise layout.refuse(
            "MotionAGFormer trained on MPI-INF-3DHP (it has min_p1), in that set's order of joints and its own units, "
            "which are not converted; take the weights for Human3.6M."
        )
    neighbours = "Each frame is joined with 2 in the temporal graph, as published: the file does not tell."
    return Reading("motionagformer", graph_options(layout), (SCALE, CONFIDENCE, HEADS, neighbours), IMAGE)


OFFICIAL = Converter(
    repository="TaatiTeam/MotionAGFormer",
    keys=("joints_embed.", "layers.0.att_spatial.", "layers.0.graph_temporal.", "rep_logit."),
    without=("x_token",),
    read=_read,
)
