"""Passes of a lifter on a GPU, recorded once and then replayed.

A pass over few windows is a hundred kernels or more of a few microseconds each, and the host takes longer to start them
one by one. A recorded pass (a CUDA graph) is started as one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.lifters.base import LifterOutput

_EAGER = 2
"""Passes of a shape that are made as they are, before one is recorded: shapes that come rarely are not worth it."""
_SHAPES = 4
"""Shapes of input that are recorded at most; each keeps the memory of a pass."""


_Key = tuple[tuple[torch.Size, torch.dtype, torch.device], ...]


@dataclass(frozen=True)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    given: tuple[Tensor, ...]
    output: LifterOutput


class Replay:
    """What `run` gives for tensors on a GPU, without gradients.

    The weights are read where they lie: changed in place they count, replaced they do not. What else `run` asks for in
    Python (settings, the time of day) stays as it was when a pass was recorded.
    """

    def __init__(self, run: Callable[..., LifterOutput]) -> None:
        self.run = run
        self.passes: Counter[_Key] = Counter()
        self.recorded: dict[_Key, _Recorded] = {}
        self.left = _SHAPES

    @torch.inference_mode(False)
    @torch.no_grad()
    def __call__(self, *given: Tensor) -> LifterOutput:
        """The output for this input; shapes that come again and again are recorded."""
        shapes = tuple((part.shape, part.dtype, part.device) for part in given)
        known = self.recorded.get(shapes)
        if known is None:
            self.passes[shapes] += 1
            if self.passes[shapes] <= _EAGER or not self.left:
                return self.run(*given)
            self.left -= 1
            try:
                known = self.recorded[shapes] = self._record(given)
            except RuntimeError:  # one that waits for the GPU, or has no memory left, cannot be recorded
                self.left = 0
                return self.run(*given)
        for place, part in zip(known.given, given, strict=True):
            place.copy_(part)
        with torch.cuda.device(given[0].device):
            known.graph.replay()
        scales = known.output.log_sigma
        return LifterOutput(known.output.pose.clone(), None if scales is None else scales.clone())

    def _record(self, given: tuple[Tensor, ...]) -> _Recorded:
        kept = tuple(part.clone() for part in given)
        with torch.cuda.device(given[0].device):
            graph = torch.cuda.CUDAGraph()
            now, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(now)
            with torch.cuda.stream(aside):  # libraries take their memory for a stream when they first run on it
                self.run(*kept)
            now.wait_stream(aside)
            # one that fails leaves its own stream behind; other threads may do what they like meanwhile
            with torch.cuda.stream(now), torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
                output = self.run(*kept)
        return _Recorded(graph, kept, output)
