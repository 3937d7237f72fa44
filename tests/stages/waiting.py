"""Finds what a step must not do on a device: wait for it."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Waiting(TorchDispatchMode):
    """Notes the operators for which the CPU waits for a device: numbers read back, and shapes that depend on values."""

    SLOW = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().split("::")[1].split(".")[0]
        masks = [index for index in args[1] if index is not None] if name == "index" else []
        if name in self.SLOW or any(index.dtype == torch.bool for index in masks):
            self.found.append(name)
        return function(*args, **(kwargs or {}))
