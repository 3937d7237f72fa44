"""Fresh weights that depend on a seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from poseda.errors import check_seed


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global CPU generator, from which PyTorch draws initial weights, for this block alone."""
    check_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
