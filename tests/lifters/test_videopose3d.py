"""VideoPose3D against outputs of the original network, published parameter counts and its receptive field."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from poseda.errors import ConfigError, ShapeError
from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter
from poseda.lifters.matmul import kept_products, use_products

REPOSITORY = Path(__file__).resolve().parents[2]


def parity(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    """Config and tensors of the original network, recorded elsewhere."""
    motion = Path(os.environ.get("POSEDA_MOTION", REPOSITORY.parent / "shared" / "data"))
    for path in (motion / "parity" / f"{name}.safetensors", motion.parent / "parity" / f"{name}.safetensors"):
        if path.is_file():
            with safe_open(path, framework="pt") as file:
                config = json.loads(file.metadata()["config"])
            return config, load_file(path)
    pytest.skip(f"no recording {name}.safetensors of the original network here")


def small(frames: int, **options) -> Lifter:
    """A narrow network with batch norms that have seen something."""
    lifter = create_lifter("videopose3d", seed=0, frames=frames, channels=8, **options)
    generator = torch.Generator().manual_seed(1)
    for key, value in lifter.state_dict().items():
        if "running" in key or "bn" in key:
            value.copy_((torch.rand(value.shape, generator=generator) + 0.5).to(value.dtype))
    return lifter.eval()


@pytest.mark.parametrize(
    ("frames", "skeleton", "count"),
    [
        (27, "h36m17", 8_555_571),
        (81, "h36m17", 12_753_971),
        (243, "h36m17", 16_952_371),
        (1, "h36m16", 8_485_933),
    ],
)
def test_parameter_count_is_the_published_one(frames, skeleton, count):
    with torch.device("meta"):
        lifter = create_lifter("videopose3d", frames=frames, skeleton=skeleton, sigma=False)
    assert sum(p.numel() for p in lifter.parameters()) == count


@pytest.mark.parametrize("name", ["videopose3d", "videopose3d_1f"])
def test_outputs_are_those_of_the_original_network(name):
    config, tensors = parity(name)
    lifter = create_lifter("videopose3d", frames=config["T"], channels=config["channels"], sigma=False).eval()
    prefix = "weights."
    lifter.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    with torch.no_grad():
        pose = lifter(tensors["input"]).pose
    assert pose.shape == tensors["output.0"].shape
    torch.testing.assert_close(pose[:, :, 1:] / 1000, tensors["output.0"][:, :, 1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [3, 9, 27, 81])
def test_dilated_and_strided_forms_agree(frames):
    lifter = small(frames)
    keypoints = torch.rand(2, frames + 6, 17, 2)
    with torch.no_grad():
        dilated = lifter(keypoints)
        strided = [lifter(keypoints[:, t : t + frames]) for t in range(7)]
    torch.testing.assert_close(dilated.pose, torch.cat([o.pose for o in strided], 1), rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(dilated.log_sigma, torch.cat([o.log_sigma for o in strided], 1))


@pytest.mark.parametrize("products", ["torch", "onednn"])
def test_many_windows_at_once_give_the_poses_of_few(products):
    lifter, keypoints = small(27), torch.rand(152, 27, 17, 2)
    with torch.no_grad(), kept_products():
        try:
            use_products(products)
        except ConfigError as error:
            pytest.skip(str(error))
        few = torch.cat([lifter(some).pose for some in keypoints.split(38)])
        torch.testing.assert_close(lifter(keypoints).pose, few, rtol=1e-5, atol=1e-2)


def test_a_pose_depends_on_every_frame_of_its_window_and_on_no_other():
    keypoints = torch.rand(1, 30, 17, 2, requires_grad=True)
    small(27)(keypoints).pose[0, 2].sum().backward()
    reached = keypoints.grad.abs().sum((0, 2, 3)) > 0
    assert reached.tolist() == [2 <= t < 29 for t in range(30)]


def test_single_frame_form_lifts_each_frame_alone():
    lifter, keypoints = small(1, skeleton="h36m16"), torch.rand(2, 4, 16, 2)
    assert lifter.output == "seq2seq"
    pose = lifter(keypoints).pose
    assert pose.shape == (2, 4, 16, 3)
    torch.testing.assert_close(pose[:, 2:3], lifter(keypoints[:, 2:3]).pose, rtol=1e-5, atol=1e-2)


def test_root_row_is_zero():
    assert (small(9)(torch.rand(1, 9, 17, 2)).pose[:, :, 0] == 0).all()


def test_momentum_reaches_every_batch_norm():
    norms = [m for m in small(9, momentum=0.02).modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert len(norms) == 3
    assert {norm.momentum for norm in norms} == {0.02}


def test_too_short_a_sequence_is_refused():
    with pytest.raises(ShapeError, match="T at least 27"):
        small(27)(torch.rand(1, 26, 17, 2))


def test_unknown_window_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"frames=28.*27, 81, 243"):
        create_lifter("videopose3d", frames=28)
