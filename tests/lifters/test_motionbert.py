"""MotionBERT against outputs of the original network, its checkpoint layout and published parameter counts."""

import pytest
import torch

from poseda.errors import ConfigError
from poseda.lifters import create_lifter
from tests.lifters.published import check_lifter, count, layout, parity, shapes, stirred


@pytest.mark.parametrize(("options", "number"), [({}, 42_466_317), ({"dim": 256, "mlp_ratio": 4.0}, 16_001_549)])
def test_parameter_count_is_the_published_one(options, number):
    assert count("motionbert", **options) == number


def options_of(config: dict) -> dict:
    return {
        "frames": config["T"],
        "max_frames": config["maxlen"],
        "dim": config["dim"],
        "depth": config["depth"],
        "heads": config["heads"],
        "mlp_ratio": float(config["mlp_ratio"]),
        "dim_rep": config["dim_rep"],
        "sigma": False,
    }


@pytest.mark.parametrize("name", ["motionbert", "motionbert_short"])
def test_state_has_the_published_names_and_shapes(name):
    config, keys = layout(name)
    assert shapes(create_lifter("motionbert", **options_of(config))) == keys


def test_outputs_are_those_of_the_original_network():
    config, tensors, weights = parity("motionbert")
    lifter = create_lifter("motionbert", **options_of(config)).eval()
    lifter.load_state_dict(weights)
    with torch.no_grad():
        pose = lifter.decode(lifter.represent(tensors["input"])).pose / 1000
    torch.testing.assert_close(pose[:, :, 1:], tensors["output.0"][:, :, 1:], rtol=0, atol=1e-5)


def test_it_lifts_windows():
    check_lifter(stirred("motionbert", frames=5, max_frames=5, dim=8, depth=2, heads=2, dim_rep=6))


def test_two_channels_are_read_at_full_confidence():
    lifter = stirred("motionbert", frames=3, dim=8, depth=1, heads=2, dim_rep=6)
    keypoints = torch.randn(2, 3, 17, 2)
    with_confidence = torch.cat([keypoints, torch.ones(2, 3, 17, 1)], -1)
    torch.testing.assert_close(lifter.encode(keypoints), lifter.represent(with_confidence))
    assert not torch.allclose(lifter.encode(keypoints), lifter.represent(with_confidence * 0.5))


def test_more_frames_than_positions_are_refused():
    with pytest.raises(ConfigError, match=r"frames=300 is outside \[1, 243\]"):
        create_lifter("motionbert", frames=300)
