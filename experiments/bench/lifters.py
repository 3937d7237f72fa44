"""Parameters, MACs, speed and memory of every lifter at its published sizes, beside the measured originals.

python experiments/bench/lifters.py --threads 1
python experiments/bench/lifters.py --only mixste,hot --longest 60
python experiments/bench/lifters.py --device cuda --precision tf32 --compile --originals originals.py

On a CPU with one thread the clock is the thread's own CPU time, so that other work on the machine counts little.
Frames are output frames. A measurement that would take longer than --longest seconds is left out. The originals'
numbers are for 2 threads of an otherwise quiet machine of the same kind; with --originals they are measured in the same
run, forward and training step: the file's `factories()` gives, for labels of ROWS, functions that build the published
networks of your own checkouts, and its `CHANNELS` the input channels of each.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import resource
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import start
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import poseda
from poseda.engine.allocator import keep_freed_memory
from poseda.lifters.base import Lifter
from poseda.lifters.gpu import without_kernels
from poseda.lifters.matmul import use_products
from poseda.lifters.replay import Replay

H36M16 = {"skeleton": "h36m16"}
LITE = {"dim": 256, "mlp_ratio": 4.0}


@dataclass(frozen=True)
class Row:
    """A published size, and what was measured of the original: parameters, GMACs and frames/s at batch 1 and 64."""

    label: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    gmacs: float = 0.0
    speed: tuple[float, float] = (0.0, 0.0)


def windows(frames: int, kept: int = 0) -> dict[str, int]:
    """Options of a window of `frames`, for PoseFormerV2 with its kept frames and coefficients."""
    return {"frames": frames, **({"kept_frames": kept, "coefficients": kept} if kept else {})}


ROWS = (
    Row("SimpleBaseline", "simplebaseline", H36M16, 4_288_557, 0.0043, (1485, 17797)),
    Row("SemGCN", "semgcn", H36M16, 267_343, 0.0048, (943, 5396)),
    Row("SemGCN non-local", "semgcn", H36M16 | {"non_local": True}, 434_703, 0.0076, (483, 2029)),
    Row("ST-GCN", "stgcn", H36M16, 3_627_847, 0.0281, (335, 2403)),
    Row("GUMLP", "gumlp", {"sigma": True}, 4_509_059, 0.1116, (235, 437)),
    Row("VideoPose3D 1", "videopose3d", H36M16 | windows(1), 8_485_933, 0.0085, (399, 6086)),
    Row("VideoPose3D 27", "videopose3d", windows(27), 8_555_571, 0.0178, (351, 5111)),
    Row("VideoPose3D 81", "videopose3d", windows(81), 12_753_971, 0.0574, (200, 1654)),
    Row("VideoPose3D 243", "videopose3d", windows(243), 16_952_371, 0.1763, (129, 692)),
    Row("PoseFormer 27", "poseformer", windows(27), 9_573_455, 0.2760, (148, 245)),
    Row("PoseFormer 81", "poseformer", windows(81), 9_602_885, 0.8469, (53.2, 58.9)),
    Row("PoseFormerV2 27/3/3", "poseformerv2", windows(27, 3), 14_355_739, 0.0590, (120, 1132)),
    Row("PoseFormerV2 81/9/9", "poseformerv2", windows(81, 9), 14_362_279, 0.1778, (97.5, 406)),
    Row("PoseFormerV2 243/27/27", "poseformerv2", windows(243, 27), 14_381_899, 0.5417, (64.0, 120)),
    Row("GLA-GCN 27", "glagcn", windows(27), 844_076, 0.1757, (144, 298)),
    Row("GLA-GCN 243", "glagcn", windows(243), 1_348_856, 1.62, (26.3, 16.6)),
    Row("ConvFormer 9", "convformer", windows(9)),
    Row("ConvFormer 27", "convformer", windows(27)),
    Row("ConvFormer 81", "convformer", windows(81)),
    Row("ConvFormer 243", "convformer", windows(243)),
    Row("MotionAGFormer-XS 27", "motionagformer", {"variant": "xs"}, 2_241_531, 0.0399, (911, 811)),
    Row("MotionAGFormer-S 81", "motionagformer", {"variant": "s"}, 4_817_119, 0.0970, (288, 211)),
    Row("MotionAGFormer-B 243", "motionagformer", {"variant": "b"}, 11_723_811, 0.2653, (177, 101)),
    Row("MotionAGFormer-L 243", "motionagformer", {"variant": "l"}, 19_007_111, 0.4303, (110, 0)),
    Row("HoT-MotionAGFormer 243", "hot_motionagformer", {}, 11_828_031, 0.1577, (309, 0)),
    Row("MotionBERT-Lite 243", "motionbert", windows(243) | LITE, 16_001_549, 0.2924, (208, 146)),
    Row("MotionBERT 243", "motionbert", windows(243), 42_466_317, 0.7630, (106, 0)),
    Row("HoT-MotionBERT 243", "hot_motionbert", {}, 16_347_661, 0.1376, (505, 317)),
    Row("MixSTE 27", "mixste", windows(27), 33_673_219, 0.5766, (139, 109)),
    Row("MixSTE 81", "mixste", windows(81), 33_700_867, 0.5841, (146, 88.5)),
    Row("MixSTE 243", "mixste", windows(243), 33_783_811, 0.6067, (133, 82.1)),
    Row("HoT-MixSTE 243", "hot", windows(243), 35_000_323, 0.3625, (209, 157)),
    Row("KTPFormer 27", "ktpformer", windows(27), 34_765_014, 0.5957, (137, 104)),
    Row("KTPFormer 81", "ktpformer", windows(81), 34_859_622, 0.6051, (142, 99.6)),
    Row("KTPFormer 243", "ktpformer", windows(243), 35_213_430, 0.6333, (125, 88.2)),
)
BATCHES = (1, 64)
PRECISIONS = ("float32", "tf32", "bfloat16")
LONG = 10
WARM_UPS = 3
"""Runs on a GPU before those that count: it chooses kernels and takes memory, or is recorded, in the first ones."""
TRAINING_COST = 4
"""About how many forward passes a training step takes, to tell which are too long."""


def main() -> None:
    """Print the table. On a CPU each row comes from a process of its own, so that its peak memory is its own."""
    arguments = parse()
    start(arguments)
    print(f"{arguments.precision}{', compiled' if arguments.compile else ''}{', replayed' if arguments.replay else ''}")
    speeds = " | ".join(f"frames/s, batch {batch}" for batch in arguments.batches)
    print(f"| lifter | parameters | GMACs / frame | {speeds} | ms / training step | MiB |")
    print(f"|---|{'---:|' * (4 + len(arguments.batches))}")
    wanted = set(arguments.only.split(",")) if arguments.only else None
    for row in ROWS:
        if wanted is not None and not {row.name, row.label} & wanted:
            continue
        if arguments.device == "cpu":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(measured, (row, arguments)), flush=True)
        else:
            torch.cuda.reset_peak_memory_stats(arguments.device)
            print(measured(row, arguments), flush=True)
            torch.compiler.reset()
            torch.cuda.empty_cache()


def parse() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch")
    parser.add_argument("--only", default="", help="lifters or lines to measure, with commas between")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each measurement, at least one run")
    parser.add_argument(
        "--batches", type=batches, default=BATCHES, help="windows in a forward pass, with commas between"
    )
    parser.add_argument("--longest", type=float, default=15.0, help="seconds that one run may take")
    parser.add_argument("--products", default="auto", help="as of every command: auto, torch or onednn")
    parser.add_argument("--forward", action="store_true", help="leave the training step out")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of ours and of the originals")
    parser.add_argument("--compile", action="store_true", help="ours through torch.compile, the originals as they are")
    parser.add_argument("--replay", action="store_true", help="ours recorded and replayed on a GPU, as streams run it")
    parser.add_argument("--originals", type=Path, help="Python file that builds the published networks")
    arguments = parser.parse_args()
    if arguments.replay and (arguments.device == "cpu" or arguments.compile):
        parser.error("--replay is for a GPU (--device cuda), and without --compile")
    return arguments


def batches(text: str) -> tuple[int, ...]:
    """Numbers of at least 1 with commas between."""
    numbers = tuple(int(part) for part in text.split(","))
    if min(numbers) < 1:
        raise ValueError
    return numbers


def measured(row: Row, arguments: argparse.Namespace) -> str:
    """One line of the table: ours (original's)."""
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    use_products(arguments.products)
    torch.set_float32_matmul_precision("high" if arguments.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = arguments.precision == "tf32"
    lifter = poseda.create_lifter(row.name, seed=0, **{"sigma": False} | row.options).to(arguments.device)
    parameters = sum(p.numel() for p in lifter.parameters())
    given = lifter.frames if lifter.output == "seq2seq" else 1
    cells = [f"{parameters:,}{beside(row.parameters, ',')}", f"{macs(lifter) / given / 1e9:.4f}{beside(row.gmacs, '')}"]
    cells += timings(subject_of(lifter, arguments.compile, arguments.replay), arguments)
    memory = peak(arguments.device)
    theirs = [f"{speed:g}" for speed in row.speed] if arguments.batches == BATCHES else []
    if arguments.originals:
        theirs = original_timings(row, lifter, given, arguments)
    for place, their in enumerate(theirs, 2):
        cells[place] += f" ({their})" if their not in ("", "0") else ""
    return f"| {row.label} | {' | '.join(cells)} | {memory:.0f} |"


@dataclass(frozen=True)
class Subject:
    """A network, and how to feed it."""

    run: Any
    """The module, what torch.compile made of it, or its recorded passes."""
    poses: Callable[[Any], torch.Tensor]
    """Poses of its output."""
    keypoints: Callable[[int], torch.Tensor]
    """Input of so many windows."""
    frames: int
    """Frames of a window."""
    given: int
    """Frames that it gives of a window."""


def subject_of(lifter: Lifter, compiled: bool = False, replayed: bool = False) -> Subject:
    """A lifter of ours."""
    run = Replay(lifter.eval()) if replayed else torch.compile(lifter) if compiled else lifter
    given = lifter.frames if lifter.output == "seq2seq" else 1
    return Subject(run, lambda output: output.pose, partial(keypoints_for, lifter), lifter.frames, given)


def original_timings(row: Row, lifter: Lifter, given: int, arguments: argparse.Namespace) -> list[str]:
    """What `timings` gives of the published network; nothing where the file does not build it."""
    spec = importlib.util.spec_from_file_location("originals", arguments.originals)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    factory = module.factories().get(row.label)
    if factory is None:
        return []
    keypoints = partial(keypoints_for, lifter, channels=module.CHANNELS[row.label])
    network = factory().to(arguments.device)
    return timings(Subject(network, lambda output: output, keypoints, lifter.frames, given), arguments, forgiving=True)


def timings(subject: Subject, arguments: argparse.Namespace, forgiving: bool = False) -> list[str]:
    """Frames/s of a forward pass of each batch, ms of a training step; – for what would take too long.

    forgiving: also for what this PyTorch refuses, as it does the backward pass of some published networks.
    """

    def tried(measure: Callable[[Subject, int, argparse.Namespace], float], batch: int) -> float | None:
        try:
            return measure(subject, batch, arguments)
        except RuntimeError:
            if not forgiving:
                raise
            return None

    cells, expected = [], 0.0
    for batch in arguments.batches:
        taken = tried(forward_seconds, batch) if expected * batch <= arguments.longest else None
        expected = taken / batch if taken else expected
        cells.append(rate(batch * subject.given / taken) if taken else "–")
    batch = training_batch(subject.frames, arguments.device)
    fits = (
        not arguments.forward
        and not isinstance(subject.run, Replay)
        and expected * batch * TRAINING_COST <= arguments.longest
    )
    taken = tried(training_seconds, batch) if fits else None
    about = "" if forgiving else f" (batch {batch})"
    cells.append(f"{1e3 * taken:.3g}{about}" if taken else "–")
    return cells


def training_batch(frames: int, device: str) -> int:
    """Windows in a training step."""
    if device != "cpu":
        return max(2, min(1024, 4096 // frames))
    return 256 if frames == 1 else max(2, min(64, 256 // frames))


def rate(value: float) -> str:
    """A speed with three digits."""
    return f"{value:.3g}" if value < 1000 else f"{round(value, -1):.0f}"


def beside(original: float, form: str) -> str:
    """An original's number in brackets, nothing where there is none."""
    return f" ({original:{form}})" if original else ""


def macs(lifter: Lifter) -> int:
    """Multiplications with accumulation of one window, attention among them."""
    with torch.no_grad(), without_kernels(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        lifter.eval()(keypoints_for(lifter, 1))
    return counter.get_total_flops() // 2


def keypoints_for(lifter: Lifter, batch: int, channels: int = 2) -> torch.Tensor:
    """Random keypoints (B, frames, J, channels) where the lifter is."""
    device = next(lifter.parameters()).device
    return torch.rand(batch, lifter.frames, lifter.skeleton.num_joints, channels, device=device) * 2 - 1


def in_precision(arguments: argparse.Namespace) -> AbstractContextManager[Any]:
    """bfloat16 where it is asked for; TF32 is a setting of the process."""
    return torch.autocast(arguments.device.split(":")[0], torch.bfloat16, enabled=arguments.precision == "bfloat16")


def forward_seconds(subject: Subject, batch: int, arguments: argparse.Namespace) -> float:
    """Seconds of a forward pass."""
    run = subject.run if isinstance(subject.run, Replay) else subject.run.eval()
    keypoints = subject.keypoints(batch)
    with torch.inference_mode(not arguments.compile), torch.no_grad(), in_precision(arguments):
        return repeated(lambda: run(keypoints), arguments)


def training_seconds(subject: Subject, batch: int, arguments: argparse.Namespace) -> float:
    """Seconds of forward, backward and AdamW."""
    run, keypoints = subject.run.train(), subject.keypoints(batch)
    optimiser = torch.optim.AdamW(run.parameters())

    def step() -> None:
        optimiser.zero_grad()
        with in_precision(arguments):
            output = run(keypoints)
        subject.poses(output).float().norm(dim=-1).mean().backward()
        optimiser.step()

    return repeated(step, arguments)


def repeated(run: Callable[[], object], arguments: argparse.Namespace) -> float:
    """Mean seconds of a run, after one to warm up; of that one on a CPU where it alone takes LONG times the time."""
    own = arguments.device == "cpu" and arguments.threads == 1
    clock = time.thread_time if own else time.perf_counter
    wait: Callable[[], object] = torch.cuda.synchronize if arguments.device != "cpu" else (lambda: None)
    for _ in range(0 if arguments.device == "cpu" else WARM_UPS):
        run()
    wait()
    count, begin = 0, clock()
    run()
    wait()
    first = clock() - begin
    if arguments.device == "cpu" and first > LONG * arguments.seconds:
        return first
    begin = clock()
    while count == 0 or clock() - begin < arguments.seconds:
        run()
        wait()
        count += 1
    return (clock() - begin) / count


def peak(device: str) -> float:
    """Largest memory so far, MiB: of this process, or of the GPU's tensors."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
