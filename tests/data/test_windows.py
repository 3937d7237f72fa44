"""Windows against a plain loop."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from poseda.data.windows import window_index
from poseda.errors import ConfigError

BOUNDS = [0, 5, 6, 15]


def by_loop(frames: int, stride: int, padding: str) -> list[list[int]]:
    windows = []
    for low, high in pairwise(BOUNDS):
        for centre in range(low, high, stride):
            wanted = [centre - frames // 2 + k for k in range(frames)]
            if padding == "edge":
                windows.append([min(max(frame, low), high - 1) for frame in wanted])
            elif wanted[0] >= low and wanted[-1] < high:
                windows.append(wanted)
    return windows


@pytest.mark.parametrize("padding", ["edge", "valid"])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 27])
def test_windows_equal_a_plain_loop(frames, stride, padding):
    windows = window_index(torch.tensor(BOUNDS), frames, stride, padding)
    assert windows.shape[1] == frames
    assert windows.tolist() == by_loop(frames, stride, padding)


def test_one_frame_windows_are_all_frames():
    assert torch.equal(window_index(torch.tensor(BOUNDS), 1)[:, 0], torch.arange(15))


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match=r"frames=0"):
        window_index(torch.tensor(BOUNDS), 0)
    with pytest.raises(ConfigError, match=r"centre_padding 'egde'.*'edge'"):
        window_index(torch.tensor(BOUNDS), 3, centre_padding="egde")
