"""Runs a command: help without heavy imports, one line for every mistake, Ctrl-C that says how to go on."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poseda.errors import ConfigError

if TYPE_CHECKING:
    from poseda.cli.schema import Machine

HELP_WORDS = {"--help", "-h", "help"}
_SPINS = "3000"
"""Turns of a waiting OpenMP thread before it sleeps: the least that costs nothing on an idle machine."""


@dataclass(frozen=True)
class Command:
    """A command: `python -m poseda.<name>`, the job it takes, what its help says."""

    name: str
    """Name of the entry module, and of the job in cli/schema.py's JOBS."""
    summary: str
    """What it does, in a sentence."""
    examples: tuple[tuple[str, str], ...]
    """Arguments and what they do, in the order of the help."""
    resumes: bool = False
    """Whether the same command goes on where an interrupted one stopped."""

    @property
    def line(self) -> str:
        return f"python -m poseda.{self.name}"


def run_command(command: Command, work: Callable[[Any], None], argv: Sequence[str] | None = None) -> int:
    """Parse, check and do the work; exit code: 0 done, 1 a mistake that was explained, 130 interrupted."""
    # both are natural: a checkpoint is a lifter's, and a command has one checkpoint
    arguments = [word.removeprefix("lifter.") if word.startswith("lifter.checkpoint=") else word
                 for word in (sys.argv[1:] if argv is None else argv)]  # fmt: skip
    if asked := HELP_WORDS.intersection(arguments):
        from poseda.cli.help import help_text

        last = max(len(arguments) - 1 - arguments[::-1].index(word) for word in asked)
        try:
            show(help_text(command, arguments[last + 1 :]))
        except Exception as error:
            return explain(error)
        return 0
    wait_asleep()
    from poseda.lifters.matmul import kept_products

    try:
        with quiet_libraries(), kept_products():
            return launch(command, work, arguments)
    except KeyboardInterrupt as stop:
        again = shlex.join(word for word in arguments if word != "resume=never")
        hint = f"To go on where it stopped: {command.line} {again}" if command.resumes else ""
        print(" ".join(["\nInterrupted.", *(notes(stop) or [hint])]).rstrip(), file=sys.stderr)
        return 130
    except BrokenPipeError:  # Hydra's, of --cfg job | head: the work's own are explained
        mute()
        return 0
    except Exception as error:
        return explain(error)


def wait_asleep() -> None:
    """Let OpenMP's threads sleep soon when they wait for each other, unless the environment says how they wait.

    By default they spin for milliseconds, and beside another busy process each waits on a core that the thread it waits
    for could use: training is then several times as slow. OpenMP reads this once, when PyTorch is first imported.
    """
    if "torch" not in sys.modules and not os.environ.get("OMP_WAIT_POLICY"):
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def show(text: str, end: str = "\n") -> None:
    """Print, also into a pipe that somebody closes (`| head`): what is still to be done is done all the same."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        mute()


def mute() -> None:
    """Nobody reads standard output any more: nothing that is written there may fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def launch(command: Command, work: Callable[[Any], None], arguments: list[str]) -> int:
    """Let Hydra compose the options and call the work once, or once for each point of a sweep."""
    import hydra

    from poseda.cli.compose import imply, job_of, register
    from poseda.cli.messages import check_spelling

    check_spelling(arguments)
    extra, rest = without_config_dir(arguments)
    rest = imply(command.name, rest)
    register(command.name, extra)
    codes: list[int] = []

    def task(cfg: Any) -> None:
        try:
            work(job_of(command.name, cfg, extra))
            codes.append(0)
        except Exception as error:  # said here, as a sweep would go on and hide it
            codes.append(explain(error))

    with hydra_environment(command, rest):
        hydra.main(config_path=None, config_name=command.name, version_base="1.3")(task)()
        show("", end="")  # what Hydra has printed, which would fail at exit where nobody reads it
    return max(codes, default=0)


def without_config_dir(arguments: Sequence[str]) -> tuple[tuple[Path, ...], list[str]]:
    """Folders given with --config-dir, laid out and read as configs/ is, and the other words."""
    rest = list(arguments)
    folders = []
    for i, word in enumerate(arguments):
        flag, _, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            folders.append(Path(value or "".join(arguments[i + 1 : i + 2])))
            rest[i : i + (1 if value else 2)] = [""] * (1 if value else 2)
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder}: there is no such folder.")
    return tuple(folders), [word for word in rest if word]


def explain(error: Exception) -> int:
    """Say what went wrong on one line; our own faults, or POSEDA_DEBUG=1, show the trace. Exit code 1."""
    from poseda.cli.messages import one_line

    if isinstance(error, BrokenPipeError):
        mute()
    line = one_line(error)
    if line is None or os.environ.get("POSEDA_DEBUG") == "1":
        traceback.print_exception(error)
    if line is not None:
        print("\n".join([f"error: {line}", *notes(error)]), file=sys.stderr)
    return 1


def notes(error: BaseException) -> list[str]:
    """What was done when the error passed by (`add_note`), such as an earlier run that was put back."""
    return list(getattr(error, "__notes__", ()))


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No warnings of libraries between our lines, unless POSEDA_DEBUG=1."""
    with warnings.catch_warnings():
        if os.environ.get("POSEDA_DEBUG") != "1":
            warnings.simplefilter("ignore")
            logging.getLogger("matplotlib").setLevel(logging.ERROR)
        yield


@contextmanager
def hydra_environment(command: Command, arguments: Sequence[str]) -> Iterator[None]:
    """Hydra reads sys.argv; HYDRA_FULL_ERROR makes it raise errors, for `explain`, and not print them."""
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [f"poseda.{command.name}", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = before
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


def use_machine(job: Machine, *, products: bool = True) -> None:
    """Set PyTorch's CPU threads, keep freed memory, and choose who multiplies where there is much to multiply."""
    from poseda.engine.allocator import keep_freed_memory
    from poseda.lifters.matmul import use_products

    keep_freed_memory()
    if job.threads:
        import torch

        torch.set_num_threads(job.threads)
    if products:
        use_products(job.products)
