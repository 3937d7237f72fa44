"""Figures: what they say, that they need no display, and that they draw what they were given."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.spatial.transform import Rotation

from poseda.errors import DataError, ShapeError
from poseda.metrics.statistics import DomainStatistics
from poseda.skeleton import get_skeleton
from poseda.viz import plot_bodies, plot_domain_gap, plot_skeletons, plot_stage_bars
from poseda.viz.skeletons import display_basis, seen_from
from poseda.viz.style import LEFT, RIGHT, TRUNK

H36M = get_skeleton("h36m17")
REMARK = "stand-in data"


def _domain(seed: int, *, with_3d: bool = True) -> DomainStatistics:
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(5, 120, generator=g)
    bones = 100 + 300 * torch.rand(120, 16, generator=g) if with_3d else None
    yaw, pitch, depth = (360 * x[3] - 180, 90 * x[4] - 45, 2 + x[3]) if with_3d else (None, None, None)
    return DomainStatistics(x[0], x[1] - 0.5, x[2] - 0.5, yaw, pitch, depth, bones, H36M.bone_names, H36M.bone_groups)


def _poses(frames: int, seed: int = 0) -> torch.Tensor:
    return 300 * torch.randn(frames, 17, 3, generator=torch.Generator().manual_seed(seed))


def _texts(figure: Figure) -> str:
    """Everything that is written in a figure, once it has been drawn."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_domain_gap_names_each_group_with_its_mean_and_spread() -> None:
    source, target = _domain(0), _domain(1, with_3d=False)
    figure = plot_domain_gap({"source": source, "target": target}, title="Gap", remark=REMARK)
    words = _texts(figure)
    assert len(figure.axes) == 4 and "Gap" in words and REMARK in words
    for name, group in (("source", source), ("target", target)):
        mean, std = float(group.scale.mean()), float(group.scale.std(correction=0))
        assert f"{name}  {mean:.2f} ± {std:.2f}" in words


def test_the_root_map_can_be_left_out() -> None:
    assert len(plot_domain_gap({"source": _domain(0)}, root_map=False).axes) == 3


def test_minus_zero_is_not_printed() -> None:
    group = _domain(0)
    shifted = DomainStatistics(group.scale, group.root_u * 0 - 1e-4, group.root_v, None, None, None, None, (), {})
    words = _texts(plot_domain_gap({"a": shifted}, root_map=False))
    assert "a  0.00 ± 0.00" in words


def test_bodies_shows_the_groups_that_have_3d() -> None:
    words = _texts(plot_bodies({"source": _domain(0), "target": _domain(1, with_3d=False)}, remark=REMARK))
    assert "source" in words and "target" not in words and REMARK in words
    assert all(bone.replace("_", " ") in words for bone in H36M.bone_groups)
    with pytest.raises(DataError, match="no group with 3D poses"):
        plot_bodies({"target": _domain(1, with_3d=False)})


def test_skeletons_write_the_joint_error_under_each_prediction() -> None:
    truth = _poses(2)
    pred = truth.clone()
    pred[:, H36M.index("lwrist"), 0] += 170.0  # 10 mm over 17 joints
    figure = plot_skeletons(
        _poses(2)[..., :2],
        {"before": pred, "after": truth},
        H36M,
        truth=truth,
        labels=["A", "B"],
        remark=REMARK,
    )
    words = _texts(figure).split("\n")
    assert len(figure.axes) == 2 * 4
    assert words.count("10 mm") == 2 and words.count("0 mm") == 2
    assert {"2D input", "before", "after", "truth", "A", "B", REMARK} <= set(words)


def test_bones_are_coloured_by_side_and_hidden_joints_take_their_bones_along() -> None:
    visible = torch.ones(1, 17, dtype=torch.bool)
    visible[0, H36M.index("lwrist")] = False
    figure = plot_skeletons(_poses(1)[..., :2], {"p": _poses(1)}, H36M, visible=visible)
    (bones,) = (c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    colours = [tuple(np.round(c[:3] * 255).astype(int)) for c in np.asarray(bones.get_colors())]
    count = {side: colours.count(tuple(bytes.fromhex(side[1:]))) for side in (LEFT, RIGHT, TRUNK)}
    assert count == {LEFT: 5, RIGHT: 6, TRUNK: 4}


def test_a_frame_without_keypoints_leaves_its_input_empty() -> None:
    words = _texts(plot_skeletons(_poses(1)[..., :2], {"p": _poses(1)}, H36M, visible=torch.zeros(1, 17).bool()))
    assert "no keypoints" in words


@pytest.mark.parametrize("tilt", [0.0, 35.0, -60.0])
def test_a_tilted_camera_is_turned_upright_for_display(tilt: float) -> None:
    """The world's upward direction, as the camera sees it, comes out upward; lengths and sides are kept."""
    up = torch.from_numpy(Rotation.from_euler("xz", [tilt, tilt / 3], degrees=True).apply([[0.0, -1.0, 0.0]]))
    basis = display_basis(1, up, azimuth=40.0, elevation=0.0)
    np.testing.assert_allclose(basis[0] @ up[0].numpy(), [0.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(basis[0] @ basis[0].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(basis[0]) == pytest.approx(1.0)


def test_without_a_turn_the_display_is_the_camera_view_with_y_up() -> None:
    poses = _poses(1)
    seen = seen_from(poses, H36M, display_basis(1, None, azimuth=0.0, elevation=0.0))
    relative = (poses - poses[:, :1]).double().numpy()
    np.testing.assert_allclose(seen, relative * [1.0, -1.0, -1.0], atol=1e-9)


def test_a_camera_that_looks_straight_down_still_has_a_display() -> None:
    assert np.isfinite(display_basis(1, torch.tensor([0.0, 0.0, -1.0]), 50.0, 12.0)).all()


def test_stage_bars_carry_value_change_seeds_and_protocol() -> None:
    rows = {"source only": [96.0, 98.0], "GPA": [71.0, 70.0], "GPA + LPA": 66.04}
    words = _texts(plot_stage_bars(rows, protocol="Protocol official17: 17 joints.", remark=REMARK))
    for text in (
        "97.0 ± 1.4",
        "70.5 ± 0.7  (\N{MINUS SIGN}26.5)",
        "66.0  (\N{MINUS SIGN}31.0)",
        "official17",
        REMARK,
    ):
        assert text in words


def test_nothing_to_plot_and_wrong_shapes_are_said() -> None:
    with pytest.raises(DataError, match="no group to plot"):
        plot_domain_gap({})
    with pytest.raises(ShapeError, match=r"'after' must be \(2, 17, 3\)"):
        plot_skeletons(_poses(2)[..., :2], {"after": _poses(3)}, H36M)


def test_figures_are_made_without_pyplot() -> None:
    code = "import sys, poseda.viz; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
