"""On a real GPU: what it computes is what a CPU computes, and no step waits for it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from poseda.data.clips import LabelledClips
from poseda.engine.descent import adam
from poseda.engine.loop import LoopConfig, run_loop
from poseda.engine.streaming import PoseStream, StreamConfig, StreamFrame
from poseda.engine.supervised import SupervisedTask, TrainConfig, train_lifter
from poseda.lifters import create_lifter, gpu, list_lifters
from poseda.lifters.base import Lifter, LifterOutput
from poseda.lifters.blocks import attend
from poseda.lifters.inference import LiftConfig, lift_clips
from poseda.lifters.matmul import gpu_products
from poseda.lifters.replay import Replay
from poseda.stages import create_stage
from poseda.stages.pipeline import AdaptConfig, AdaptTask, finish_stages, lift_with_stages, recast_source
from tests.lifters.test_every_lifter import SMALL
from tests.stages.killing import Killed, KilledAt

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
STAGES = ["bodies", "gpa", "lpa", "mean_teacher", "tto"]


@pytest.mark.parametrize("name", list_lifters())
def test_a_lifter_and_its_gradients_are_those_of_a_cpu(name: str) -> None:
    here = create_lifter(name, seed=0, **SMALL[name]).eval()
    there = copy.deepcopy(here).cuda()
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.rand(6, here.frames, here.skeleton.num_joints, 2, generator=generator) * 2 - 1
    poses = []
    with gpu_products(tf32=False):
        for lifter, given in ((here, keypoints), (there, keypoints.cuda())):
            pose = lifter(given).pose / 1000
            pose.square().mean().backward()
            poses.append(pose.detach().cpu())
    torch.testing.assert_close(poses[1], poses[0], rtol=1e-4, atol=1e-5)
    for found, expected in zip(there.parameters(), here.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(found.grad.cpu(), expected.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("width", [4, 8, 16, 64])
@pytest.mark.parametrize("shape", [(2000, 8, 17), (70000, 2, 9), (3, 8, 243)])
def test_attention_of_any_number_of_tokens_is_that_of_double_precision(shape: tuple[int, ...], width: int) -> None:
    q, k, v = torch.randn(3, *shape, width, device="cuda")
    some = slice(None, None, max(shape[0] // 50, 1))
    exact = (width**-0.5 * q[some].double() @ k[some].double().mT).softmax(-1) @ v[some].double()
    with gpu_products(tf32=False):
        torch.testing.assert_close(attend(q, k, v)[some], exact.float(), rtol=1e-4, atol=1e-4)
    half = attend(q.bfloat16(), k.bfloat16(), v.bfloat16())[some]
    torch.testing.assert_close(half.double(), exact, rtol=0.05, atol=0.05)


def test_clips_are_lifted_in_full_and_less_exactly_where_that_is_asked_for(tiny_target: LabelledClips) -> None:
    lifter = create_lifter("convformer", seed=0, **SMALL["convformer"])
    clips = tiny_target.unlabelled()
    here = lift_clips(lifter, clips).poses
    lifter, there = lifter.cuda(), clips.to("cuda")
    errors = {
        precision: (lift_clips(lifter, there, config=LiftConfig(precision=precision)).poses.cpu() - here).abs().max()
        for precision in ("float32", "tf32", "bfloat16")
    }
    assert errors["float32"] < 0.05 < errors["bfloat16"] and errors["tf32"] < errors["bfloat16"]


def test_no_step_waits(tiny_source: LabelledClips, tiny_target: LabelledClips) -> None:
    source, target = tiny_source.to("cuda"), tiny_target.unlabelled().to("cuda")
    stages = [create_stage(name) for name in STAGES]
    lifter = create_lifter("simplebaseline", seed=0, hidden=16).cuda().train()
    recast = recast_source(source, target, stages)
    adapting = AdaptTask(lifter, recast, target, stages, AdaptConfig(steps=100, batch_size=16), seed=0)
    config = TrainConfig(steps=100, batch_size=16, rotate=True, noise="cpn")
    training = SupervisedTask(lifter, source, config, torch.Generator("cuda").manual_seed(0))
    for task in (adapting, training):
        for index in range(6):
            task.step(index)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for index in range(6, 9):
                task.step(index)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_an_interrupted_adaptation_goes_on(
    tiny_source: LabelledClips, tiny_target: LabelledClips, tmp_path: Path
) -> None:
    source, target = tiny_source.to("cuda"), tiny_target.unlabelled().to("cuda")
    first = create_lifter("simplebaseline", seed=0, hidden=64).cuda()
    train_lifter(first, source, TrainConfig(steps=30, batch_size=64))
    loop = LoopConfig(steps=12, log_every=2, checkpoint_seconds=0)

    def run(folder: Path, kill_after: int) -> Lifter:
        stages = [*(create_stage(name) for name in STAGES), KilledAt(kill_after)]
        lifter = copy.deepcopy(first).train()
        recast = recast_source(source, target, stages)
        task = AdaptTask(lifter, recast, target, stages, AdaptConfig(steps=12, batch_size=64), seed=0)
        run_loop(task, loop, seed=0, folder=folder)
        return lifter.eval()

    whole = run(tmp_path / "whole", 100)
    with pytest.raises(Killed):
        run(tmp_path / "parts", 7)
    again = run(tmp_path / "parts", 100)
    poses = [lift_with_stages(lifter, target, []).poses for lifter in (whole, again)]
    torch.testing.assert_close(poses[1], poses[0], rtol=1e-2, atol=1.0)
    refine = [create_stage("tto")]
    finish_stages(again, source, refine)
    refined = lift_with_stages(again, target, refine).poses
    assert refined.is_cuda and bool(refined.isfinite().all())


def test_adam_in_one_kernel_is_adam() -> None:
    first = [torch.randn(40, 30), torch.randn(30)]
    moved = []
    for device in ("cpu", "cuda"):
        weights = [value.clone().to(device).requires_grad_() for value in first]
        optimiser = adam(weights, 1e-2)
        for step in range(5):
            for weight in weights:
                weight.grad = torch.sin(weight.detach() * (step + 1))
            optimiser.step()
        moved.append([weight.detach().cpu() for weight in weights])
    for found, expected in zip(moved[1], moved[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens, inputs, outputs", [(4096, 512, 1536), (1000, 96, 200), (77, 1024, 64)])
def test_a_linear_kernel_is_as_exact_as_float32(tokens: int, inputs: int, outputs: int) -> None:
    kernels = pytest.importorskip("poseda.lifters.triton_kernels")
    x, weight, bias = (
        torch.randn(*shape, device="cuda") for shape in ((tokens, inputs), (outputs, inputs), (outputs,))
    )
    exact = functional.linear(x.double(), weight.double(), bias.double())
    errors = []
    with gpu_products(tf32=False):
        for result in (kernels.linear(x, weight, bias), functional.linear(x, weight, bias)):
            errors.append(float((result.double() - exact).norm() / exact.norm()))
    assert errors[0] < max(errors[1], 3e-7)


@pytest.mark.parametrize("bits", [0x7FFFFFFF, -1, 0x7FC00000])
def test_what_is_no_number_stays_none(bits: int) -> None:
    kernels = pytest.importorskip("poseda.lifters.triton_kernels")
    for wrong in (0, 1):
        x, weight = torch.randn(2, 64, 64, device="cuda")
        (x, weight)[wrong].view(torch.int32)[3, 5] = bits
        found, expected = kernels.linear(x, weight, None).isnan(), functional.linear(x, weight).isnan()
        assert torch.equal(found, expected)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    "shape", [(3, 4, 17, 4), (3, 4, 17, 68), (2, 3, 100, 16), (2, 3, 60, 64), (2, 3, 243, 64), (1, 2, 243, 128)]
)
def test_an_attention_kernel_is_that_of_double_precision(shape: tuple[int, ...], exact: bool) -> None:
    kernels = pytest.importorskip("poseda.lifters.triton_kernels")
    batch, heads, tokens, width = shape
    q, k, v = torch.randn(batch, tokens, 3, heads, width, device="cuda").permute(2, 0, 3, 1, 4).unbind(0)
    k, v = k[:, :, : tokens // 2 + 1], v[:, :, : tokens // 2 + 1]  # fewer keys than queries, as in HoT
    expected = (0.3 * q.double() @ k.double().mT).softmax(-1) @ v.double()
    found = kernels.attention(q, k, v, 0.3, exact)
    assert float((found.double() - expected).norm() / expected.norm()) < (1e-6 if exact else 3e-5)
    half = kernels.attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), 0.3, exact)
    torch.testing.assert_close(half.double(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("width", [64, 100, 512])
def test_a_layer_norm_kernel_is_that_of_double_precision(width: int) -> None:
    kernels = pytest.importorskip("poseda.lifters.triton_kernels")
    x, weight, bias = 5 + 3 * torch.randn(7, 3, width, device="cuda"), *torch.randn(2, width, device="cuda")
    expected = functional.layer_norm(x.double(), (width,), weight.double(), bias.double(), 1e-6)
    torch.testing.assert_close(kernels.layer_norm(x, weight, bias, 1e-6).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available() and torch.cuda.get_device_capability()[0] != 9, reason="needs a Hopper")
@pytest.mark.parametrize("name", ["hot", "motionbert", "mixste", "poseformer"])
def test_a_lifter_of_kernels_is_that_of_pytorch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    launch = gpu._run

    def run(name: str, *given: object) -> torch.Tensor | None:
        y = launch(name, *given)
        ran.extend([name] if y is not None else [])
        return y

    monkeypatch.setattr(gpu, "_run", run)
    monkeypatch.setattr(gpu, "_PRODUCTS", 0)
    monkeypatch.setattr(gpu, "_NUMBERS", 0)
    dim = 32 if name == "poseformer" else 128  # of a joint, or of a token
    lifter = create_lifter(name, seed=0, **SMALL[name] | {"dim": dim, "heads": 8}).cuda().eval()
    keypoints = torch.rand(6, lifter.frames, lifter.skeleton.num_joints, 2, device="cuda") * 2 - 1
    with torch.no_grad(), gpu_products(tf32=False):
        found = lifter(keypoints).pose
        assert set(ran) >= {"linear", "layer_norm", "attention"}
        ran.clear()
        with gpu.without_kernels():
            expected = lifter(keypoints).pose
    assert not ran
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0.05)
    lifter(keypoints)
    assert not ran  # a gradient is asked for


@pytest.mark.parametrize("name", ["poseformer", "mixste", "motionagformer", "hot", "semgcn", "videopose3d"])
def test_a_stream_replays_what_clips_are_lifted_to(name: str, tiny_target: LabelledClips) -> None:
    lifter = create_lifter(name, seed=0, **SMALL[name])
    clips = tiny_target._take(torch.arange(tiny_target.num_frames) < min(int(tiny_target.bounds[1]), 40)).unlabelled()
    tiled = lifter.output == "seq2seq" and not lifter.slides
    exact = LiftConfig(overlap=lifter.frames - 1, merge="centre") if tiled else LiftConfig()
    expected = lift_clips(lifter, clips, flip=True, config=exact).poses
    there = clips.to("cuda")
    stream = PoseStream(lifter.cuda(), there.cameras[0], StreamConfig(jump=0, scale_jump=0), flip=True)
    found = []
    for number, (keypoints, confidence) in enumerate(zip(there.keypoints, there.confidence, strict=True)):
        found += stream.push(StreamFrame(number, keypoints, confidence))
    found += stream.reset()
    assert isinstance(stream.run_whole, Replay) and len(stream.run_whole.recorded) == 1
    poses = torch.stack([pose.pose for pose in found]).cpu()
    torch.testing.assert_close(poses, expected, rtol=1e-3, atol=0.05)


def test_what_cannot_be_recorded_runs_as_it_is() -> None:
    def waits(x: torch.Tensor) -> LifterOutput:
        return LifterOutput(x * float(x.sum().cpu()))

    replay, stream = Replay(waits), torch.cuda.current_stream()
    for value in range(5):
        x = torch.full((3,), float(value), device="cuda")
        assert torch.equal(replay(x).pose, x * x.sum())
        assert torch.cuda.current_stream() == stream
    assert not replay.recorded


def test_a_replay_reads_the_weights_anew() -> None:
    layer = torch.nn.Linear(4, 4).cuda()
    replay = Replay(lambda x: LifterOutput(layer(x)))
    with torch.no_grad():
        for _ in range(6):
            layer.weight.add_(1.0)
            x = torch.randn(3, 4, device="cuda")
            torch.testing.assert_close(replay(x).pose, layer(x))
    assert len(replay.recorded) == 1
