"""Train the zoo: every model of recipe.json, one after the other, with its card; then a table.

    python experiments/train_zoo/run.py cmu17.npz --models 'simplebaseline-*' --device cpu --threads 1
    python experiments/train_zoo/run.py cmu17.npz                        # all of them, on a GPU if there is one
    python experiments/train_zoo/run.py --source h36m --root data        # for those who hold Human3.6M, prepared
    python experiments/train_zoo/run.py cmu17.npz --models NAME --seeds 0 1 2   # the spread of the card's command
    python experiments/train_zoo/run.py cmu17.npz --models NAME --ship          # into the package, with its index

A model that is finished is not trained again, and one that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from cost import measured
from recipe import Model, recipe_models
from ship import add_spread, domain_of, put_into_package, write_model

from poseda import train
from poseda.engine.checkpoint import read_card
from poseda.engine.records import Column, format_table
from poseda.engine.runtime import resolve_device
from poseda.errors import ConfigError, PosedaError

COLUMNS = (
    Column("model"),
    Column("mpjpe", "MPJPE mm"),
    Column("pa_mpjpe", "PA-MPJPE mm"),
    Column("spread", "seeds"),
    Column("half", "half costs mm", 3),
    Column("size", "MB"),
    Column("seconds", "s", 0),
    Column("utilisation"),
    Column("published"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, write cards, print the table; the exit code of a command."""
    given = parse(argv)
    if given.threads:  # also of the scoring, which is done here
        torch.set_num_threads(given.threads)
    try:
        models = recipe_models(given.source, given.models)
        if given.source == "cmu" and not given.motion:
            raise ConfigError("--source cmu needs the motion file: run.py cmu17.npz")
        if given.checkpoint and len(models) > 1:
            raise ConfigError("--checkpoint is of one model: name it with --models.")
        files = {model.name: make(model, given) for model in models}
        table = summary(models, files)
        (given.runs / "table.txt").write_text(table + "\n")
        print(table)
        if given.ship:
            put_into_package(files)
            print("They are in the package; python -m poseda.models output=docs/models.md writes their page anew.")
    except PosedaError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("motion", nargs="?", default="", help="--source cmu: the npz file of CMU's motion")
    parser.add_argument("--source", default="cmu", help="cmu, h36m (prepared, licensed) or standin")
    parser.add_argument("--models", nargs="+", default=["*"], help="names or patterns; all of the source by default")
    parser.add_argument("--root", default="data", help="--source h36m: the folder of prepared data")
    parser.add_argument("--runs", type=Path, default=Path("runs/zoo"), help="folder of all runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="the first is shipped, the rest its spread")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--words", nargs="*", default=[], help="more options of python -m poseda.train, for trials")
    parser.add_argument("--checkpoint", type=Path, help="a card for this checkpoint; nothing is trained")
    parser.add_argument("--ship", action="store_true", help="put the models into the package")
    return parser.parse_args(argv)


def make(model: Model, given: argparse.Namespace) -> Path:
    """One model from training to its card; returns its file."""
    output: Path = given.runs / f"{model.name}.safetensors"
    runs = {seed: given.checkpoint or trained(model, seed, given) for seed in given.seeds}
    checkpoint = runs[given.seeds[0]]
    cost = checkpoint.with_name("cost.json")
    card = read_card(checkpoint)[1]
    output.parent.mkdir(parents=True, exist_ok=True)
    domain = domain_of(card, given.motion, given.root if given.source == "h36m" else "no-such-folder")
    time = json.loads(cost.read_text()) if cost.is_file() else None
    try:
        write_model(checkpoint, output, model, domain, time=time)
    except PosedaError as error:
        raise PosedaError(
            f"{model.name}: no card. {error} Its training is kept in {checkpoint.parent}; was it too short? The other "
            "models go on with --models."
        ) from error
    if len(runs) > 1:
        add_spread(output, runs, domain.test)
    return output


def trained(model: Model, seed: int, given: argparse.Namespace) -> Path:
    """The checkpoint of a run, which is trained, or trained on, where it is not there yet."""
    words = [word.format(path=given.motion, root=given.root) for word in model.words]
    options = [f"out={given.runs}", f"name={model.name}", f"seed={seed}", f"device={given.device}"]
    folder = next(iter(sorted(given.runs.glob(f"*/{model.name}/seed{seed}"))), None)
    if folder and (folder / "results.json").is_file():
        return folder / "lifter.safetensors"
    marker = given.runs / f".{model.name}-{seed}.json"
    with measured(marker, windows(words + given.words), resolve_device(given.device)):
        code = train.main([*words, *options, f"threads={given.threads}", *given.words])
    if code:
        raise ConfigError(f"{model.name}: python -m poseda.train ended with {code}; what it said is above.")
    folder = next(iter(given.runs.glob(f"*/{model.name}/seed{seed}")))
    marker.replace(folder / "cost.json")
    return folder / "lifter.safetensors"


def windows(words: Sequence[str]) -> int:
    """Windows that a whole training sees."""
    options = dict(word.split("=", 1) for word in words)
    return int(options["train.steps"]) * int(options["train.batch_size"])


def summary(models: Sequence[Model], files: dict[str, Path]) -> str:
    """The table of what was trained, each number from its card."""
    rows = [row(model, read_card(files[model.name])[1], files[model.name].stat().st_size) for model in models]
    return format_table(rows, COLUMNS, "h36m17 on held-out people; each model's card has its 2D, subjects and command")


def row(model: Model, card: dict[str, Any], size: int) -> dict[str, object]:
    half, time, spread = card["half_precision"], card["time"] or {}, card.get("spread")
    return {
        "model": model.name,
        "mpjpe": card["metrics"]["mpjpe"],
        "pa_mpjpe": card["metrics"]["pa_mpjpe"],
        "spread": " ".join(f"{value:.2f}" for value in spread["mpjpe"].values()) if spread else None,
        "half": half["half"] - half["full"],
        "size": size / 1e6,
        "seconds": time.get("seconds"),
        "utilisation": time.get("utilisation"),
        "published": model.published or None,
    }


if __name__ == "__main__":
    sys.exit(main())
