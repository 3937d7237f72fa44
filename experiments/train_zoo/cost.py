"""What a training costs: wall and processor time, windows a second, and how busy the GPU was."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from poseda.engine.checkpoint import atomic_write

SAMPLE_SECONDS = 1.0


@contextmanager
def measured(file: Path, windows: int, device: torch.device) -> Iterator[None]:
    """Measure the block and add it to what `file` holds of earlier, interrupted goes; `windows` are those of all."""
    earlier = json.loads(file.read_text()) if file.is_file() else {"seconds": 0.0, "cpu_seconds": 0.0}
    wall, cpu, busy, stop = time.monotonic(), _processor_time(), [], threading.Event()
    watch = threading.Thread(target=_watch, args=(device, busy, stop), daemon=True)
    watch.start()
    try:
        yield
    finally:
        stop.set()
        watch.join()
        seconds = earlier["seconds"] + time.monotonic() - wall
        worked = earlier["cpu_seconds"] + _processor_time() - cpu
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
        used = f", GPU {sum(busy) / len(busy):.0f} % busy" if busy else ""
        record = {
            "device": name,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(worked, 1),
            "utilisation": f"{windows / seconds:.0f} windows a second of wall time, "
            f"{windows / worked:.0f} of processor time{used}",
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, (json.dumps(record, indent=2) + "\n").encode())


def _processor_time() -> float:
    used = os.times()
    return used.user + used.system


def _processor() -> str:
    """The processor's model as Linux has it, else what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _watch(device: torch.device, busy: list[float], stop: threading.Event) -> None:
    """Sample the GPU's utilisation, where there is a GPU and PyTorch can ask it (nvidia-ml-py)."""
    while device.type == "cuda" and not stop.wait(SAMPLE_SECONDS):
        try:
            busy.append(torch.cuda.utilization(device))
        except (ImportError, RuntimeError):
            return
