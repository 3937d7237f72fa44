"""Frames of all people alike: a data set's build is that of its people, not that of whoever was filmed longest."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from poseda.data.clips import Clips, LabelledClips, UnlabelledClips

AnyClips = TypeVar("AnyClips", LabelledClips, UnlabelledClips)


def people_of(clips: Clips) -> Tensor:
    """(F,) int64: the number of the person in each frame."""
    numbers = {name: number for number, name in enumerate(clips.subjects)}
    of_sequence = [numbers[sequence.subject] for sequence in clips.sequences]
    return torch.tensor(of_sequence, device=clips.bounds.device)[clips.sequence_index]


def alike(clips: AnyClips, most: int, each: int = 1) -> AnyClips:
    """At most `most` frames, of each person as many, but at least `each`; evenly spread over that person's frames."""
    person = people_of(clips)
    share = max(most // len(clips.subjects), each)
    keep = torch.zeros_like(person, dtype=torch.bool)
    for number in range(len(clips.subjects)):
        frames = (person == number).nonzero().squeeze(-1)
        keep[frames[:: -(-len(frames) // share)]] = True
    return clips._take(keep)
