"""Clips rearranged as published evaluations cut them."""

import pytest
import torch

from poseda.data.clips import LabelledClips, Provenance, Sequence
from poseda.data.legacy import legacy_clips
from poseda.errors import ConfigError
from poseda.geometry.camera import Camera
from poseda.skeleton import get_skeleton

LENGTHS = (3, 4, 9)


@pytest.fixture
def clips() -> LabelledClips:
    """Frame t of all holds the keypoint x = t in pixels, the confidence of a seen joint and the depth 4000 + t mm."""
    count = sum(LENGTHS)
    number = torch.arange(count, dtype=torch.float32)
    poses = 200 * torch.randn(count, 17, 3)
    poses[..., 2] += 4000
    poses[:, 0, 2] = 4000 + number
    return LabelledClips(
        keypoints=number[:, None, None].expand(-1, 17, 2).clone(),
        confidence=torch.ones(count, 17),
        bounds=torch.tensor([0, 3, 7, 16]),
        sequences=tuple(Sequence(f"s{i}", "a", "walk", 0) for i in range(3)),
        cameras=Camera.create(fx=[900.0], fy=900.0, cx=400.0, cy=300.0, width=[1000.0], height=[1000.0]),
        skeleton=get_skeleton("h36m17"),
        fps=50.0,
        provenance=Provenance("test", "stand-in", "none", "metric", "gt"),
        poses=poses,
    )


EXPECTED = {
    "mixste": [[0, 1, 2, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7, 5, 6, 7, 8]],
    "hot": [[0, 1, 2, 2], [0, 1, 2, 3], [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8]],
    "motionbert": [[0, 0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7]],
}


@pytest.mark.parametrize("convention", EXPECTED)
def test_windows_hold_the_frames_that_the_published_evaluation_scores(clips, convention):
    cut = legacy_clips(clips, 4, convention)
    first = clips.bounds[:-1].tolist()
    expected = [f + t for f, places in zip(first, EXPECTED[convention], strict=True) for t in places]
    assert cut.keypoints[:, 0, 0].tolist() == expected
    assert torch.equal(cut.poses, clips.poses[expected])
    assert cut.bounds.diff().tolist() == [len(places) for places in EXPECTED[convention]]
    unlabelled = legacy_clips(clips.unlabelled(), 4, convention)
    assert torch.equal(unlabelled.keypoints, cut.keypoints)


def test_an_unknown_convention_is_refused(clips):
    with pytest.raises(ConfigError, match=r"no convention 'mixte'\. Did you mean 'mixste'"):
        legacy_clips(clips, 4, "mixte")
    with pytest.raises(ConfigError, match="frames=0"):
        legacy_clips(clips, 0, "hot")
