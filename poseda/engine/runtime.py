"""The one place that names devices."""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.errors import ConfigError


def resolve_device(name: str = "auto") -> torch.device:
    """Device of a name: "auto" is the first GPU if there is one, else the CPU.

    Raises ConfigError for an unknown name or a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"There is no device '{name}'. Known: auto, cpu, cuda, cuda:0, …, mps.") from None
    if device.type == "cuda":
        _check_cuda(name, device.index or 0)
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device=mps was asked for, but this PyTorch cannot use one; device=cpu works.")
    elif device.type not in ("cpu", "mps"):
        raise ConfigError(f"poseda does not run on '{name}'. Known: auto, cpu, cuda, cuda:0, …, mps.")
    return device


def restore_generator(generator: torch.Generator, state: Tensor) -> None:
    """Let a generator go on from a state that it gave before.

    Raises ConfigError for the state of a generator on another kind of device, which draws other numbers.
    """
    if len(state) != len(generator.get_state()):
        raise ConfigError(
            f"This run was begun on another kind of device than {generator.device.type}, which draws other numbers: go "
            "on with that one (device=), or start anew with resume=never (from Python resume=False)."
        )
    generator.set_state(state)


def _check_cuda(name: str, index: int) -> None:
    if not torch.cuda.is_available():
        built = "finds no GPU" if torch.version.cuda else "was built without CUDA"
        raise ConfigError(f"device={name} was asked for, but PyTorch {torch.__version__} {built}; device=auto works.")
    if index >= torch.cuda.device_count():
        raise ConfigError(f"device={name} was asked for, but there are only {torch.cuda.device_count()} GPUs.")
