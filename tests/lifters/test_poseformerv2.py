"""PoseFormerV2: published parameter counts and checkpoint layouts, and its cosine transforms against SciPy."""

import numpy as np
import pytest
import torch
from scipy import fft

from poseda.errors import ConfigError
from poseda.lifters import create_lifter
from poseda.lifters.poseformerv2 import cosine_transform, inverse_cosine_transform
from tests.lifters.published import check_lifter, count, layout, shapes, stirred


@pytest.mark.parametrize(
    ("frames", "kept", "low", "number"),
    [
        (27, 3, 1, 14_354_649),
        (27, 3, 3, 14_355_739),
        (81, 9, 9, 14_362_279),
        (243, 27, 27, 14_381_899),
    ],
)
def test_parameter_count_is_the_published_one(frames, kept, low, number):
    assert count("poseformerv2", frames=frames, kept_frames=kept, coefficients=low) == number


@pytest.mark.parametrize("name", ["poseformerv2", "poseformerv2_k9c5"])
def test_state_has_the_published_names_and_shapes(name):
    config, keys = layout(name)
    options = {"frames": config["T"], "kept_frames": config["kept"], "coefficients": config["coeff"]}
    lifter = create_lifter("poseformerv2", dim=config["dim"], depth=config["depth"], sigma=False, **options)
    assert shapes(lifter) == keys


@pytest.mark.parametrize("count_", [1, 2, 7, 27])
def test_transforms_are_those_of_scipy(count_):
    x = np.random.default_rng(0).normal(size=(count_, 3))
    np.testing.assert_allclose(cosine_transform(count_).numpy() @ x, fft.dct(x, axis=0), atol=2e-5)
    np.testing.assert_allclose(inverse_cosine_transform(count_).numpy() @ x, fft.idct(x, axis=0), atol=2e-6)


def test_frequency_tokens_are_the_lowest_coefficients_of_the_whole_window():
    lifter = stirred("poseformerv2", frames=9, kept_frames=3, coefficients=4, dim=4, depth=1, heads=2)
    keypoints = torch.randn(2, 9, 17, 2)
    spectrum = torch.from_numpy(fft.dct(keypoints.flatten(2).numpy(), axis=1)[:, :4])
    expected = lifter.Freq_embedding(spectrum) + lifter.Temporal_pos_embed_
    torch.testing.assert_close(lifter._frequencies(keypoints), expected, rtol=1e-4, atol=1e-5)


def test_pose_tokens_are_those_of_the_central_frames():
    lifter = create_lifter("poseformerv2", frames=9, kept_frames=3, coefficients=2, dim=4, depth=1, heads=2)
    assert list(range(9))[lifter.centre] == [3, 4, 5]


def test_mixed_block_transforms_the_second_half_of_its_tokens():
    lifter = stirred("poseformerv2", frames=9, kept_frames=5, coefficients=2, dim=4, depth=1, heads=2)
    block = lifter.blocks[0]
    x = torch.randn(2, 7, 1, 68)
    with torch.no_grad():
        after = (x + block.attn(block.norm1(x)))[:, :, 0]
        first, second = after[:, :3], after[:, 3:]  # 7 tokens: 3 and 4, although 2 of them are frequencies
        plain = block.mlp1.fc2(torch.nn.functional.gelu(block.mlp1.fc1(block.norm2(first))))
        spectrum = torch.from_numpy(fft.dct(block.norm3(second).numpy(), axis=1))
        mixed = block.mlp2.fc2(torch.nn.functional.gelu(block.mlp2.fc1(spectrum)))
        back = torch.from_numpy(fft.idct(mixed.numpy(), axis=1))
        expected = torch.cat([first + plain, second + back], 1)
        torch.testing.assert_close(block(x)[:, :, 0], expected, rtol=1e-4, atol=1e-4)


def test_it_lifts_the_centre_of_windows():
    check_lifter(stirred("poseformerv2", frames=7, kept_frames=3, coefficients=3, dim=4, depth=2, heads=2))


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="kept_frames=4 must be odd"):
        create_lifter("poseformerv2", kept_frames=4)
    with pytest.raises(ConfigError, match=r"coefficients=28 is outside \[1, 27\]"):
        create_lifter("poseformerv2", coefficients=28)
