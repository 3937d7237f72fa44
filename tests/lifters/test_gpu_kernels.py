"""When a GPU's own kernels run, and what happens where they cannot. What they compute is tested in test_gpu.py."""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from poseda.lifters import gpu
from poseda.lifters.motionagformer import kth_largest


def test_on_a_cpu_the_layers_are_pytorchs():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 16, generator=generator)
    for ours, theirs in ((gpu.Linear(16, 7), nn.Linear(16, 7)), (gpu.LayerNorm(16, eps=1e-3), nn.LayerNorm(16, 1e-3))):
        theirs.load_state_dict(ours.state_dict())
        assert torch.equal(ours(x), theirs(x))


def test_kernels_run_without_gradients_transforms_and_objections(monkeypatch):
    monkeypatch.setattr(gpu, "_is_hopper", lambda device: True)
    x = torch.zeros(2, 2)
    assert not gpu._may(x)
    with torch.no_grad():
        assert gpu._may(x)
        seen = []
        torch.func.vmap(lambda row: (seen.append(gpu._may(row)), row)[1])(x)
        with gpu.without_kernels():
            seen.append(gpu._may(x))
        assert seen == [False, False] and gpu._may(x)
    with torch.inference_mode():
        assert gpu._may(x)


@pytest.mark.parametrize(
    "x, weight",
    [
        (torch.zeros(4, 128).double(), torch.zeros(64, 128)),
        (torch.zeros(128, 4).mT, torch.zeros(64, 128)),
        (torch.zeros(4, 96), torch.zeros(64, 96)),
        (torch.zeros(4, 144), torch.zeros(64, 144)),
        (torch.zeros(4, 128), torch.zeros(3, 128)),
        (torch.zeros(4, 256), torch.zeros(64, 128)),
    ],
    ids=["double", "strided", "few inputs", "inputs of no whole steps", "few outputs", "other inputs"],
)
def test_other_linear_layers_are_left_to_pytorch(monkeypatch, x, weight):
    monkeypatch.setattr(gpu, "_is_hopper", lambda device: True)
    with torch.no_grad():
        assert gpu._multiplies(torch.zeros(4, 128), torch.zeros(64, 128), torch.zeros(64))
        assert not gpu._multiplies(x, weight, None)
        assert not gpu._multiplies(torch.zeros(4, 128), torch.zeros(64, 128), torch.zeros(3))
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            assert not gpu._multiplies(torch.zeros(4, 128), torch.zeros(64, 128), None)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before


def test_where_they_cannot_be_built_that_is_said_once_and_pytorch_computes(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'triton'\nand more")

    monkeypatch.setattr(gpu, "_enabled", True)
    monkeypatch.setattr(gpu, "_is_hopper", lambda device: True)
    monkeypatch.setattr(gpu.torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(gpu.importlib, "import_module", missing)
    x = torch.zeros(2, 2)
    with torch.no_grad(), pytest.warns(UserWarning, match="faster kernels for this GPU: No module named 'triton'$"):
        assert gpu._run("linear", x, x, None) is None
    with torch.no_grad():
        assert not gpu._may(x)


def test_too_little_memory_is_not_taken_for_that(monkeypatch):
    def full(name):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(gpu.torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(gpu.importlib, "import_module", full)
    with warnings.catch_warnings(), pytest.raises(torch.OutOfMemoryError):
        warnings.simplefilter("error")
        gpu._run("linear", torch.zeros(2, 2))


def test_a_norm_of_other_channels_is_refused_as_ever(monkeypatch):
    monkeypatch.setattr(gpu, "_asks", lambda x: True)
    monkeypatch.setattr(gpu, "_is_hopper", lambda device: True)
    monkeypatch.setattr(gpu, "_NUMBERS", 0)
    monkeypatch.setattr(gpu, "_run", lambda *given: given[1])
    with torch.no_grad():
        assert gpu.LayerNorm(16)(torch.ones(3, 16)).sum() == 48  # what stands for the kernel here
        with pytest.raises(RuntimeError, match="normalized_shape"):
            gpu.LayerNorm(16)(torch.zeros(3, 32))


@pytest.mark.parametrize("k", [1, 2, 4, 5, 9])
def test_the_kth_largest_counts_equal_numbers_one_by_one(k):
    numbers = torch.randint(0, 6, (40, 3, 9), generator=torch.Generator().manual_seed(0)).float()
    expected = numbers.sort(-1, descending=True).values[..., k - 1 : k]
    assert torch.equal(kth_largest(numbers, k), expected)
