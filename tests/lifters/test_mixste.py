"""MixSTE against outputs of the original network, its checkpoint layout and published parameter counts."""

import pytest
import torch

from poseda.errors import ConfigError, ShapeError
from poseda.lifters import create_lifter
from tests.lifters.published import check_lifter, count, layout, parity, shapes, stirred


@pytest.mark.parametrize(("frames", "number"), [(27, 33_673_219), (81, 33_700_867), (243, 33_783_811)])
def test_parameter_count_is_the_published_one(frames, number):
    assert count("mixste", frames=frames) == number


@pytest.mark.parametrize("name", ["mixste", "mixste_hotrepo"])
def test_state_has_the_published_names_and_shapes(name):
    config, keys = layout(name)
    lifter = create_lifter("mixste", frames=config["T"], dim=config["dim"], depth=config["depth"], sigma=False)
    assert shapes(lifter) == keys


def test_outputs_are_those_of_the_original_network():
    config, tensors, weights = parity("mixste")
    options = {"frames": config["T"], "dim": config["dim"], "depth": config["depth"], "heads": config["heads"]}
    lifter = create_lifter("mixste", sigma=False, **options).eval()
    lifter.load_state_dict(weights)
    with torch.no_grad():
        pose = lifter(tensors["input"]).pose / 1000
    torch.testing.assert_close(pose[:, :, 1:], tensors["output.0"][:, :, 1:], rtol=0, atol=1e-5)


def test_it_lifts_windows():
    check_lifter(stirred("mixste", frames=5, dim=8, depth=2, heads=2))


def test_only_training_drops_branches():
    lifter = create_lifter("mixste", seed=0, frames=5, dim=8, depth=2, heads=2, drop_path=0.9)
    keypoints = torch.randn(4, 5, 17, 2)
    assert not torch.equal(lifter(keypoints).pose, lifter(keypoints).pose)
    lifter.eval()
    assert torch.equal(lifter(keypoints).pose, lifter(keypoints).pose)


def test_wrong_windows_and_widths_are_refused():
    with pytest.raises(ShapeError, match="T 5"):
        create_lifter("mixste", frames=5, dim=8, depth=1, heads=2)(torch.randn(1, 6, 17, 2))
    with pytest.raises(ConfigError, match="heads=8"):
        create_lifter("mixste", dim=12)
