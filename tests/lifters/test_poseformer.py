"""PoseFormer: published parameter counts and checkpoint layout, and the order of its tokens."""

import pytest
import torch

from poseda.errors import ConfigError
from poseda.lifters import create_lifter
from tests.lifters.published import check_lifter, count, layout, shapes, stirred


@pytest.mark.parametrize(("frames", "number"), [(9, 9_563_645), (27, 9_573_455), (81, 9_602_885)])
def test_parameter_count_is_the_published_one(frames, number):
    assert count("poseformer", frames=frames) == number


def test_state_has_the_published_names_and_shapes():
    config, keys = layout("poseformer")
    options = {"frames": config["T"], "dim": config["dim"], "depth": config["depth"], "heads": config["heads"]}
    assert shapes(create_lifter("poseformer", sigma=False, **options)) == keys


def test_a_frame_token_is_its_joints_side_by_side():
    lifter = stirred("poseformer", frames=3, dim=8, depth=1, heads=2)
    keypoints = torch.randn(2, 3, 17, 2)
    with torch.no_grad():
        tokens = []
        for t in range(3):
            joints = lifter.Spatial_patch_to_embedding(keypoints[:, t]) + lifter.Spatial_pos_embed[0]
            joints = lifter.Spatial_norm(lifter.Spatial_blocks[0](joints[:, None])[:, 0])
            tokens.append(torch.cat([joints[:, j] for j in range(17)], -1) + lifter.Temporal_pos_embed[0, t])
        mixed = lifter.Temporal_norm(lifter.blocks[0](torch.stack(tokens, 1)[:, :, None])[:, :, 0])
        weight = lifter.weighted_mean.weight[0, :, 0]
        expected = sum(weight[t] * mixed[:, t] for t in range(3)) + lifter.weighted_mean.bias
        torch.testing.assert_close(lifter.encode(keypoints)[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_it_lifts_the_centre_of_windows():
    check_lifter(stirred("poseformer", frames=5, dim=4, depth=2, heads=2))


def test_windows_without_centre_are_refused():
    with pytest.raises(ConfigError, match="frames=8 must be odd"):
        create_lifter("poseformer", frames=8)
