"""What both benchmarks share: options, random clips, a stopwatch that waits for the device, the machine's line."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from poseda.data.clips import LabelledClips
from poseda.data.domains import DomainConfig, load_domain
from poseda.engine.allocator import keep_freed_memory
from poseda.engine.runtime import resolve_device
from poseda.lifters.matmul import use_products


def options(description: str, batch: int, repeats: int) -> argparse.ArgumentParser:
    """Options of a benchmark, with its own defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch")
    parser.add_argument("--products", default="auto", help="as of every command: auto, torch or onednn")
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--hidden", type=int, default=1024, help="width of the lifter (SimpleBaseline)")
    parser.add_argument("--repeats", type=int, default=repeats, help="timed runs, of which the median is printed")
    return parser


def start(arguments: argparse.Namespace) -> torch.device:
    """Do what the commands do at their start, print the machine's line and return the device."""
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    products = use_products(arguments.products)
    device = resolve_device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), {device} ({name}), products by {products}")
    return device


def stand_in(name: str, device: torch.device) -> LabelledClips:
    """Training clips of a stand-in domain; nothing is prepared in a folder that is not there."""
    return load_domain(DomainConfig(name), root="").train.to(device)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of one run, from an idle device to an idle device."""
    _wait(device)
    begin = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - begin


def median_seconds(run: Callable[[], object], device: torch.device, repeats: int) -> tuple[float, float]:
    """Median wall time after a run to warm up, and half the range of the runs."""
    run()
    times = [seconds(run, device) for _ in range(repeats)]
    return statistics.median(times), (max(times) - min(times)) / 2


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
