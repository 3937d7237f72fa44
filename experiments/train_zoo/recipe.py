"""The recipe's models: which there are, and the words of `python -m poseda.train` that make each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from poseda.errors import ConfigError, choose

RECIPE = Path(__file__).with_name("recipe.json")


@dataclass(frozen=True)
class Model:
    """One model of the recipe on one source."""

    name: str
    words: tuple[str, ...]
    """Options of `python -m poseda.train`, {path} and {root} left open."""
    rig: str
    limits: tuple[str, ...]
    published: str
    """What the architecture's own paper reports, where the source is Human3.6M; "" where nothing was found."""
    command: str
    """The command that trains it, as its card has it."""


def recipe_models(source: str, patterns: Sequence[str], path: Path = RECIPE) -> list[Model]:
    """Models of a source whose names match one of the patterns; ConfigError where none does."""
    recipe = json.loads(path.read_text())
    about = recipe["sources"][choose(source, recipe["sources"], "source of the recipe")]
    models = [
        _model(source, about, family, entry, variant)
        for family, entry in recipe["models"].items()
        if source in entry["sources"]
        for variant in about["variants"]
    ]
    chosen = [model for model in models if any(fnmatchcase(model.name, pattern) for pattern in patterns)]
    if not chosen:
        raise ConfigError(f"--models {' '.join(patterns)}: none of {', '.join(model.name for model in models)}.")
    return chosen


def _model(source: str, about: dict, family: str, entry: dict, variant: str) -> Model:  # type: ignore[type-arg]
    name = f"{family}-{about['suffix']}{variant}"
    given = "cmu17.npz " if source == "cmu" else ""
    return Model(
        name=name,
        words=(*about["words"], *entry["words"], *about["variants"][variant]),
        rig=about["rig"],
        limits=tuple(about["limits"]),
        published=entry["published"] if source == "h36m" else "",
        command=f"python experiments/train_zoo/run.py {given}--source {source} --models {name}",
    )
