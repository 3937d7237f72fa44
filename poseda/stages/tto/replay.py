"""A lifter run from one of its modules on: what came before is remembered and not run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from poseda.errors import ConfigError, choose
from poseda.lifters.base import Lifter, LifterOutput

Calls = list[tuple[nn.Module, Any]]


class Replay:
    """The part of a lifter that follows a named module's output, or its input.

    One pass records what the outermost modules before it gave; in later passes these return what they gave then, and
    only what follows, and the plain operations between modules, is computed. Works for any order of modules, since
    nothing is taken apart. Raises ConfigError for a module that does not exist, runs not once, or has no tensor.
    """

    def __init__(self, lifter: Lifter, name: str, keypoints: Tensor, *, at_input: bool) -> None:
        choose(name, [found for found, _ in lifter.named_modules() if found], "tto.module")
        self.lifter, self.name, self.at_input = lifter, name, at_input
        self.module = lifter.get_submodule(name)
        self.keypoints = keypoints
        self.calls: Calls = []
        values: list[Any] = []
        with torch.no_grad(), _recording(lifter, self.module, self.calls, values, at_input):
            self.output: LifterOutput = lifter(keypoints)
        if len(values) != 1:
            raise ConfigError(f"tto.module={name} runs {len(values)} times in {lifter.name}, and must once.")
        if not isinstance(values[0], Tensor):
            side = "takes" if at_input else "gives"
            raise ConfigError(f"tto.module={name} {side} a {type(values[0]).__name__}, not a tensor; name another.")
        self.start: Tensor = values[0]

    def __call__(self, latent: Tensor) -> LifterOutput:
        """The lifter's output with `latent` where the named module's input or output was."""
        with ExitStack() as stack:
            for module in {call[0] for call in self.calls}:
                given = iter([output for owner, output in self.calls if owner is module])
                stack.enter_context(_replaced(module, _served(given, module.forward)))
            forward = self.module.forward
            changed = (lambda _, *rest, **named: forward(latent, *rest, **named)) if self.at_input else _always(latent)
            stack.enter_context(_replaced(self.module, changed))
            output: LifterOutput = self.lifter(self.keypoints)
        return output

    def check(self, output: LifterOutput) -> None:
        """Raise ConfigError unless a replay from the start, which gave `output`, gives what the lifter gave."""
        if not torch.allclose(output.pose, self.output.pose, rtol=1e-3, atol=1e-1):
            raise ConfigError(f"tto.module={self.name}: {self.lifter.name} cannot be run from there on; name another.")


def _always(value: Tensor) -> Callable[..., Tensor]:
    return lambda *_, **__: value


def _served(given: Iterator[Any], forward: Callable[..., Any]) -> Callable[..., Any]:
    """What was recorded, once each, and then the module itself."""
    missing = object()

    def call(*inputs: Any, **named: Any) -> Any:
        output = next(given, missing)
        return forward(*inputs, **named) if output is missing else _copied(output)

    return call


def _copied(output: Any) -> Any:
    """A copy of recorded tensors: a lifter may write into what its modules gave."""
    if isinstance(output, Tensor):
        return output.clone()
    return type(output)(_copied(part) for part in output) if isinstance(output, (tuple, list)) else output


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Another forward for one module; hooks still run."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


@contextmanager
def _recording(lifter: Lifter, target: nn.Module, calls: Calls, values: list[Any], at_input: bool) -> Iterator[None]:
    """Hooks that keep the outputs of the outermost modules that end before `target` starts, and target's value."""
    open_calls: list[Calls] = [calls]

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module is target and at_input:
            values.append(inputs[0] if inputs else None)
        if not values:
            open_calls.append([])

    def leave(module: nn.Module, _inputs: object, output: Any) -> None:
        if module is target and not at_input:
            values.append(output)
        elif not values:
            open_calls.pop()  # this module's record stands for those of its parts
            open_calls[-1].append((module, output))

    handles = []
    for module in lifter.modules():
        if module is not lifter:
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        calls.extend(call for level in open_calls[1:] for call in level)
