"""MotionBERT (Walter0807/MotionBERT): full and Lite, trained from scratch, fine-tuned, or with global positions."""

from __future__ import annotations

from poseda.lifters.official.layout import CONFIDENCE, HEADS, IMAGE, SCALE, Converter, Layout, Reading

_ROOT = (
    "The root that the network gives is subtracted: fine-tuned weights put it at about 0, where the original then "
    "sets it to 0 and leaves the others, and the 'global' weights put it in the image."
)


def stream_options(layout: Layout) -> dict[str, object]:
    """Options that MotionBERT and HoT on it read from the same weights."""
    return {
        "skeleton": layout.skeleton(layout.size("pos_embed", 1)),
        "frames": layout.size("temp_embed", 1),
        "max_frames": layout.size("temp_embed", 1),
        "dim": layout.size("pos_embed", 2),
        "depth": layout.count("blocks_st."),
        "mlp_ratio": layout.ratio("blocks_st.0.mlp_s.fc1.weight", "pos_embed"),
        "dim_rep": layout.size("head.weight", 1),
        "units": "image",
        "sigma": False,
    }


def _read(layout: Layout) -> Reading:
    window = (
        "The window is as long as there are positions. The original network takes shorter ones too, this lifter does "
        "not: the last frame of a shorter sequence is repeated when clips are lifted."
    )
    return Reading("motionbert", stream_options(layout), (SCALE, _ROOT, CONFIDENCE, HEADS, window), IMAGE)


OFFICIAL = Converter(
    repository="Walter0807/MotionBERT",
    keys=("joints_embed.", "temp_embed", "blocks_st.", "blocks_ts.", "pre_logits."),
    without=("x_token",),
    read=_read,
)
