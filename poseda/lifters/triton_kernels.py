"""Kernels for Hopper GPUs in Triton, which PyTorch's CUDA builds for Linux bring along: see `poseda.lifters.gpu`.

Products of float32 numbers run on the tensor cores, which take 11 bits of a number (TF32) or 8 (bfloat16): each number
is the sum of two or three such parts, and the products of the parts are added up in float32. Ozaki et al., Numerical
Algorithms 59 (2012), and NVIDIA's CUTLASS ("3xTF32") do so.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from poseda.lifters.gpu import LINEAR_STEP

_ROWS, _COLUMNS, _GROUP, _LINEAR_WARPS, _LINEAR_STAGES = 64, 128, 8, 4, 3
"""Tile of a linear layer's result; two of them share a multiprocessor (experiments/bench/kernels.py)."""
_EXACT, _INEXACT = "bf16x6", "bf16x3"
"""Products of float32 numbers in attention: six, or three, of bfloat16. tf32x3, as exact, is slower there."""
_NORM_ROWS, _NORM_WARPS = 4, 4
_SPLIT = 1024
_LOG2_E = 1.4426950408889634


@triton.jit
def _upper(x):
    """x to the nearest number of 11 bits, which a tensor core takes as it is."""
    return ((x.to(tl.int32, bitcast=True) + 4096) & -8192).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=["count"])
def _split_kernel(x, upper, lower, count, SIZE: tl.constexpr):
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = at < count
    number = tl.load(x + at, mask=inside)
    first = _upper(number)
    tl.store(upper + at, first, mask=inside)
    # what is no number must not become one: of some, the upper bits are those of a zero
    tl.store(lower + at, tl.where(number == number, _upper(number - first), number), mask=inside)


@triton.jit(do_not_specialize=["m"])
def _linear_kernel(
    x, upper, lower, bias, y, m, n, K: tl.constexpr, BIAS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, STEP: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    # GROUP tiles below each other come one after the other, so that they find the weights in the cache
    tile, across, down = tl.program_id(0), tl.cdiv(n, COLUMNS), tl.cdiv(m, ROWS)
    first = tile // (GROUP * across) * GROUP
    size = tl.minimum(down - first, GROUP)
    rows = (first + tile % (GROUP * across) % size) * ROWS + tl.arange(0, ROWS)
    columns = tile % (GROUP * across) // size * COLUMNS + tl.arange(0, COLUMNS)
    step = tl.arange(0, STEP)
    x_at = tl.minimum(rows, m - 1).to(tl.int64)[:, None] * K + step[None, :]
    w_at = tl.minimum(columns, n - 1)[:, None] * K + step[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k in range(0, K, STEP):
        number = tl.load(x + x_at + k)
        w_upper = tl.load(upper + w_at + k)
        w_lower = tl.load(lower + w_at + k)
        x_upper = _upper(number)
        # the small products first, and no more than STEP of them before they go to the exact sum: tensor cores cut
        # off what does not fit, always towards zero, and that adds up over K
        part = tl.dot(number - x_upper, w_upper.T, input_precision="tf32")
        part = tl.dot(x_upper, w_lower.T, part, input_precision="tf32")
        part = tl.dot(x_upper, w_upper.T, part, input_precision="tf32")
        total += part
    if BIAS:
        total += tl.load(bias + columns, mask=columns < n, other=0.0)[None, :]
    inside = (rows < m)[:, None] & (columns < n)[None, :]
    tl.store(y + rows.to(tl.int64)[:, None] * n + columns[None, :], total, mask=inside)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias of contiguous float32 x (..., K) and weight (N, K), K a multiple of LINEAR_STEP.

    As exact as float32 products are: relative errors of 1.1e-7 where cuBLAS has 2.9e-7 (K = 512). An infinite number
    gives NaN.
    """
    if weight.shape[1] % LINEAR_STEP:
        raise ValueError(f"{weight.shape[1]} input channels are no multiple of {LINEAR_STEP}.")
    (n, k), m = weight.shape, x.numel() // weight.shape[1]
    upper, lower = torch.empty_like(weight), torch.empty_like(weight)
    _split_kernel[(triton.cdiv(n * k, _SPLIT),)](weight, upper, lower, n * k, SIZE=_SPLIT)
    y = x.new_empty(*x.shape[:-1], n)
    _linear_kernel[(triton.cdiv(m, _ROWS) * triton.cdiv(n, _COLUMNS),)](
        x, upper, lower, weight if bias is None else bias, y, m, n, K=k, BIAS=bias is not None,
        ROWS=_ROWS, COLUMNS=_COLUMNS, STEP=LINEAR_STEP, GROUP=_GROUP,
        num_warps=_LINEAR_WARPS, num_stages=_LINEAR_STAGES,
    )  # fmt: skip
    return y


@triton.jit
def _scores(query, k_at, there, channel_there, PRECISION: tl.constexpr):
    """Products of queries with keys, -inf for keys that are none."""
    number = tl.load(k_at, mask=there[:, None] & channel_there[None, :], other=0.0)
    return tl.where(there[None, :], tl.dot(query, number.T, input_precision=PRECISION), float("-inf"))


@triton.jit(do_not_specialize=["heads", "queries", "keys"])
def _attention_kernel(
    q, k, v, y, scale, heads, queries, keys, channels,
    q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token,
    PRECISION: tl.constexpr, ONE: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(queries, QUERIES)
    place = tl.program_id(0) // blocks
    batch, head = (place // heads).to(tl.int64), place % heads
    row = tl.program_id(0) % blocks * QUERIES + tl.arange(0, QUERIES)
    key, channel = tl.arange(0, KEYS), tl.arange(0, CHANNELS)
    q_at = q + batch * q_batch + head * q_head + row[:, None] * q_token + channel[None, :]
    k_at = k + batch * k_batch + head * k_head + key[:, None] * k_token + channel[None, :]
    v_at = v + batch * v_batch + head * v_head + key[:, None] * v_token + channel[None, :]
    inside = (row < queries)[:, None] & (channel < channels)[None, :]
    query = tl.load(q_at, mask=inside, other=0.0)
    if query.dtype == tl.float32:  # scaled here, not as scores: the compiler then needs a third fewer registers
        query = query * scale
        scale = 1.0
    if ONE:
        scores = _scores(query, k_at, key < keys, channel < channels, PRECISION)
        share = tl.exp2(scores * scale - (tl.max(scores, 1) * scale)[:, None])
        value = tl.load(v_at, mask=(key < keys)[:, None] & (channel < channels)[None, :], other=0.0)
        result = tl.dot(share.to(value.dtype), value, input_precision=PRECISION)
        total = tl.sum(share, 1)
    else:  # the softmax is over all keys so far (Milakov and Gimelshein, 2018)
        largest = tl.full((QUERIES,), float("-inf"), tl.float32)
        total = tl.zeros((QUERIES,), tl.float32)
        result = tl.zeros((QUERIES, CHANNELS), tl.float32)
        for start in range(0, keys, KEYS):
            there = key + start < keys
            scores = _scores(query, k_at + start * k_token, there, channel < channels, PRECISION)
            now = tl.maximum(largest, tl.max(scores, 1) * scale)
            share = tl.exp2(scores * scale - now[:, None])
            kept = tl.exp2(largest - now)
            inside_v = there[:, None] & (channel < channels)[None, :]
            value = tl.load(v_at + start * v_token, mask=inside_v, other=0.0)
            result = tl.dot(share.to(value.dtype), value, result * kept[:, None], input_precision=PRECISION)
            total = total * kept + tl.sum(share, 1)
            largest = now
    y_at = y + batch * queries * heads * channels + head * channels + row[:, None] * heads * channels + channel[None, :]
    tl.store(y_at, (result / total[:, None]).to(y.dtype.element_ty), mask=inside)


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float, exact: bool) -> Tensor:
    """softmax(scale q k^T) v of (N, heads, L, D), scale > 0, each token's channels side by side in memory.

    float32 numbers are three parts of bfloat16 each if `exact` (relative errors of 2e-7, PyTorch's kernel has 6e-7),
    else two (6e-6, where TF32 has 4e-4). The result lies in memory as (N, L, heads, D).
    """
    batch, heads, queries, channels = q.shape
    y = q.new_empty(batch, queries, heads, channels)
    tile, warps, stages = _attention_tile(max(queries, k.shape[2]), channels)
    width = max(16, triton.next_power_of_2(channels))
    precision = None if q.dtype != torch.float32 else _EXACT if exact else _INEXACT
    _attention_kernel[(batch * heads * triton.cdiv(queries, tile[0]),)](
        q, k, v, y, scale * _LOG2_E, heads, queries, k.shape[2], channels,
        *q.stride()[:3], *k.stride()[:3], *v.stride()[:3],
        PRECISION=precision, ONE=k.shape[2] <= tile[1], QUERIES=tile[0], KEYS=tile[1], CHANNELS=width,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return y.transpose(1, 2)


def _attention_tile(tokens: int, channels: int) -> tuple[tuple[int, int], int, int]:
    """Queries and keys of a tile, warps and stages: the fastest of experiments/bench/kernels.py."""
    if tokens <= 32:
        return (32, 32), (4 if channels > 32 else 1), 1
    if channels <= 32:
        return (64, 64), 4, (2 if channels > 8 else 1)
    return ((128, 32), 4, 3) if tokens > 128 and channels <= 64 else ((64, 32), 4, 2)


@triton.jit(do_not_specialize=["m"])
def _norm_kernel(x, weight, bias, y, m, channels, eps, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    channel = tl.arange(0, CHANNELS)
    there = channel < channels
    at, inside = row[:, None] * channels + channel[None, :], (row < m)[:, None] & there[None, :]
    number = tl.load(x + at, mask=inside, other=0.0)
    mean = tl.sum(number, 1) / channels
    centred = tl.where(there[None, :], number - mean[:, None], 0.0)
    spread = tl.sqrt(tl.sum(centred * centred, 1) / channels + eps)
    gain = tl.load(weight + channel, mask=there, other=0.0)[None, :]
    offset = tl.load(bias + channel, mask=there, other=0.0)[None, :]
    tl.store(y + at, centred / spread[:, None] * gain + offset, mask=inside)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer norm over the last axis of contiguous float32 x (..., C)."""
    channels, y = x.shape[-1], torch.empty_like(x)
    m = x.numel() // channels
    _norm_kernel[(triton.cdiv(m, _NORM_ROWS),)](
        x, weight, bias, y, m, channels, eps, ROWS=_NORM_ROWS, CHANNELS=triton.next_power_of_2(channels),
        num_warps=_NORM_WARPS,
    )  # fmt: skip
    return y
