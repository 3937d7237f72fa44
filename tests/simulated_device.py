"""A device that is simulated on the CPU, so that what only a GPU would show can be tested without one.

Its tensors say that they are on `DEVICE` and hold a CPU tensor each. As on a GPU, they do not meet CPU tensors, and
what makes the host wait for the device is written down: a number read back, a shape that depends on values, a copy in
either direction. PyTorch's name of the device is "meta", the one that it lets go without a driver.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from poseda import skeleton

DEVICE = torch.device("meta")
_PACKAGE = str(Path(skeleton.__file__).parent)
_READ = {"_local_scalar_dense", "equal", "is_nonzero"}
"""Operations that give the host a number."""
_COUNTED = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "_linalg_check_errors"}
"""Operations whose result's shape, or whose success, the host has to know."""


class Waits(list[str]):
    """What made the host wait, one entry each time: the operation and the lines of the package that led to it."""

    def add(self, what: str) -> None:
        """Write one down."""
        frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(_PACKAGE)]
        places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.line}" for frame in frames[:-4:-1]]
        self.append(" < ".join([what, *places]))


class Elsewhere(torch.Tensor):
    """A tensor on the simulated device."""

    inner: torch.Tensor
    waits: Waits

    @staticmethod
    def __new__(cls, inner: torch.Tensor, waits: Waits) -> Elsewhere:
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=DEVICE,
        )  # fmt: skip

    def __init__(self, inner: torch.Tensor, waits: Waits) -> None:
        self.inner, self.waits = inner, waits

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        waits = next(leaf.waits for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Elsewhere))
        return _run(func, args, kwargs or {}, waits)

    def __repr__(self, *_: Any, **__: Any) -> str:
        return f"Elsewhere({self.inner})"

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._index(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        index = self._index(key)
        if not isinstance(value, torch.Tensor) and super().__getitem__(index).dim() == 0:
            self.waits.add("one number set")  # it is copied there, where a slice is filled
        super().__setitem__(index, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.detach().inner.__reduce_ex__(protocol)

    def tolist(self) -> Any:
        self.waits.add("tolist")
        return self.detach().inner.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("A tensor on the simulated device has no NumPy array: take .cpu() first.")

    def new_tensor(self, data: Any, **options: Any) -> Elsewhere:
        self.waits.add("new_tensor")
        return Elsewhere(torch.tensor(data, dtype=options.get("dtype", self.dtype)), self.waits)

    def _index(self, key: Any) -> Any:
        """The key with lists as tensors on the device, to which PyTorch would copy them."""
        parts = key if isinstance(key, tuple) else (key,)
        if any(isinstance(part, list) for part in parts):
            self.waits.add("indexed by a list")
        there = [Elsewhere(torch.tensor(part), self.waits) if isinstance(part, list) else part for part in parts]
        return tuple(there) if isinstance(key, tuple) else there[0]


class _Mode(TorchDispatchMode):
    """Takes what is made on the device from its name alone."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self.waits)


_Generator = torch.Generator


class _SimulatedGenerator(_Generator):
    """A generator that says it is where it was asked for, and draws on the CPU."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return super().__new__(cls, device="cpu")

    def __init__(self, device: Any = "cpu") -> None:
        self._device = torch.device(device)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._device


class _SimulatedAutocast(torch.autocast):
    def __init__(self, device_type: str, *args: Any, **options: Any) -> None:
        super().__init__("cpu" if device_type == DEVICE.type else device_type, *args, **options)


@contextmanager
def simulated_device() -> Iterator[Waits]:
    """Inside, DEVICE works; gives the list of what made the host wait."""
    waits = Waits()

    def copying(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def made(data: Any, *args: Any, **options: Any) -> torch.Tensor:
            device = options.get("device")
            if device is None or torch.device(device) != DEVICE or isinstance(data, Elsewhere):
                return make(data, *args, **options)
            waits.add(make.__name__)
            return Elsewhere(make(data, *args, **{**options, "device": "cpu"}), waits)

        return made

    changes = {
        "tensor": copying(torch.tensor), "as_tensor": copying(torch.as_tensor),
        "Generator": _SimulatedGenerator, "autocast": _SimulatedAutocast,
    }  # fmt: skip
    caches = (skeleton.index_tensor, skeleton.constant_tensor, skeleton._bone_matrix, skeleton._path_matrix)
    try:
        with mock.patch.multiple(torch, **changes), _Mode(waits):
            yield waits
    finally:
        for cache in caches:
            cache.cache_clear()


def back(tensor: torch.Tensor) -> torch.Tensor:
    """The CPU tensor of one on the device."""
    return tensor.detach().inner  # type: ignore[attr-defined, no-any-return]


def _run(func: Any, args: Any, kwargs: dict[str, Any], waits: Waits) -> Any:
    """An operation on the CPU tensors inside."""
    name = func._schema.name.split("::")[1]
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = any(isinstance(leaf, Elsewhere) for leaf in given)
    inner, options = tree_map(lambda leaf: leaf.inner if isinstance(leaf, Elsewhere) else leaf, (args, kwargs))
    target = torch.device(kwargs["device"]) if kwargs.get("device") is not None else (DEVICE if there else None)
    if kwargs.get("device") is not None and target == DEVICE:
        options = {**options, "device": torch.device("cpu")}
    if name in ("_to_copy", "copy_"):
        if name == "copy_":
            target = DEVICE if isinstance(args[0], Elsewhere) else torch.device("cpu")
            there = isinstance(args[1], Elsewhere)
        if there != (target == DEVICE):
            waits.add(f"copied to the {'device' if target == DEVICE else 'host'}")
        result = func(*inner, **options)
        return args[0] if name == "copy_" else Elsewhere(result, waits) if target == DEVICE else result
    if there:
        _look(name, args, kwargs, given, waits)
    result = func(*inner, **options)
    if target != DEVICE or name in _READ:
        return result
    result = tree_map(lambda leaf: Elsewhere(leaf, waits) if isinstance(leaf, torch.Tensor) else leaf, result)
    return return_and_correct_aliasing(func, args, kwargs, result) if there else result


def _look(name: str, args: Any, kwargs: dict[str, Any], given: list[torch.Tensor], waits: Waits) -> None:
    """Write down what waits, and refuse tensors on two devices, but for a CPU's numbers, which PyTorch takes along."""
    for leaf in given:
        if isinstance(leaf, Elsewhere) or (leaf.dim() == 0 and name not in ("cat", "stack", "index_select")):
            continue
        if not name.startswith(("index", "_index")) or leaf is args[0]:
            raise RuntimeError(f"{name}: one tensor is on the device, and one of {tuple(leaf.shape)} on the CPU.")
        waits.add("indexed by a CPU tensor")
    by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
        isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in args[1]
    )
    filled = by_mask and name != "index" and args[2].dim() == 0
    unknown = name == "repeat_interleave" and kwargs.get("output_size") is None
    if name in _READ | _COUNTED or unknown or (by_mask and not filled):
        waits.add(name)
