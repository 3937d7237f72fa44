"""Who multiplies: float32 stays float32, attention the same, and the process is left as it was."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from poseda.errors import ConfigError
from poseda.lifters import matmul
from poseda.lifters.blocks import attend
from poseda.lifters.matmul import gpu_multiplies_in_full, gpu_products, kept_products, use_products, writes_attention


@pytest.fixture(autouse=True)
def restored():
    with kept_products():
        yield


@pytest.fixture
def onednn():
    try:
        use_products("onednn")
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("rows, inner, columns", [(1, 64, 64), (17, 34, 48), (512, 1024, 512), (300, 2048, 3)])
def test_products_are_float32(onednn, rows, inner, columns):
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(rows, inner, generator=generator), torch.randn(columns, inner, generator=generator)
    exact = left.double() @ right.double().mT
    assert (F.linear(left, right).double() - exact).norm() < 2e-6 * exact.norm()
    assert ((left[None] @ right.mT).double() - exact).norm() < 2e-6 * exact.norm()


def test_gradients_are_float32(onednn):
    x = torch.randn(64, 96, generator=torch.Generator().manual_seed(1), requires_grad=True)
    w = torch.randn(32, 96, generator=torch.Generator().manual_seed(2), requires_grad=True)
    found = torch.autograd.grad(F.linear(x, w).square().sum(), (x, w))
    exact = torch.autograd.grad(F.linear(x.double(), w.double()).square().sum(), (x, w))
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_written_out_is_the_fused_one(onednn, scale):
    q, k, v = torch.randn(3, 5, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    assert writes_attention(q) and not writes_attention(q.double())
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), scale=scale)
    torch.testing.assert_close(attend(q, k, v, scale).double(), expected, rtol=1e-5, atol=1e-6)


def test_long_windows_are_written_out_only_where_no_gradient_is_asked_for(onednn):
    long, short = torch.zeros(1, 1, 243, 8), torch.zeros(1, 1, 81, 8)
    assert writes_attention(short) and not writes_attention(long)
    with torch.no_grad():
        assert writes_attention(short) and writes_attention(long)


def test_auto_takes_onednn_where_it_gains_and_nowhere_else(monkeypatch):
    before = matmul._switch()
    monkeypatch.setattr(matmul, "_gains", lambda: False)
    assert use_products("auto") == "torch" and matmul._switch() == before
    monkeypatch.setattr(matmul, "_gains", lambda: True)
    monkeypatch.setattr(matmul, "_multiplies_in_float32", lambda: True)
    if before is not None:
        with kept_products():
            assert use_products("auto") == "onednn" and writes_attention(torch.zeros(1, 1, 9, 8))
        assert matmul._switch() == before and not writes_attention(torch.zeros(1, 1, 9, 8))


def test_a_processor_that_would_round_to_bfloat16_is_left_alone(monkeypatch):
    before = matmul._switch()
    monkeypatch.setattr(matmul, "_gains", lambda: True)
    monkeypatch.setattr(matmul, "_multiplies_in_float32", lambda: False)
    assert use_products("auto") == "torch" and matmul._switch() == before
    with pytest.raises(ConfigError, match="products=onednn"):
        use_products("onednn")
    assert matmul._switch() == before


def test_the_trial_tells_bfloat16_from_float32(monkeypatch):
    assert matmul._multiplies_in_float32()
    randn = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *a, **k: randn(*a, **k).bfloat16())
    assert not matmul._multiplies_in_float32()


@pytest.mark.parametrize("newer", [False, True])
def test_a_gpus_products_are_as_asked_inside_and_as_before_outside(newer):
    matrices, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    if newer and not hasattr(matrices, "fp32_precision"):
        pytest.skip("this PyTorch has the older names alone")
    before = (matrices.allow_tf32, convolutions.allow_tf32)
    if newer:  # after which the older name raises
        convolutions.conv.fp32_precision, convolutions = "ieee", convolutions.conv
        matrices.fp32_precision = "tf32"
    names = ["fp32_precision"] * 2 if newer else ["allow_tf32"] * 2
    words = {True: "tf32", False: "ieee"} if newer else {True: True, False: False}

    def now():
        return [getattr(part, name) for part, name in zip((matrices, convolutions), names, strict=True)]

    try:
        kept = now()
        for tf32 in (True, False):
            with gpu_products(tf32):
                assert now() == [words[tf32]] * 2
                assert gpu_multiplies_in_full() != tf32
            assert now() == kept
    finally:
        matrices.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_another_name_is_refused():
    with pytest.raises(ConfigError, match="products"):
        use_products("mkl")
