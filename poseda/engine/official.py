"""Opening a lifter's file whoever wrote it: ours, or the official checkpoint of a published network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from poseda.engine.checkpoint import load_lifter
from poseda.files.torch_files import is_torch_file
from poseda.lifters.base import Lifter
from poseda.lifters.official import load_official_checkpoint


def open_lifter(path: Path | str, *, say: Callable[[str], object] = print) -> tuple[Lifter, dict[str, Any]]:
    """A lifter (CPU, float32, eval mode) and its card, of our safetensors or of a file that torch.save wrote.

    What is recognised in an official checkpoint, and what is assumed of it, is told to `say` line by line and kept
    in the card. Raises as `load_lifter` and `load_official_checkpoint` do.
    """
    if not is_torch_file(path):
        return load_lifter(path)
    official = load_official_checkpoint(path)
    say(official.recognised)
    for remark in official.remarks:
        say(f"  {remark}")
    told = {"repository": official.repository, "recognised": official.recognised, "remarks": list(official.remarks)}
    return official.lifter, {"official": told}
