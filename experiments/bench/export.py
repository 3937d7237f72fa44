"""Every lifter at its published sizes as a torch.export and an ONNX program: difference, size and time.

python experiments/bench/export.py --only mixste,hot

Each program is written as `python -m poseda.export` writes it, compared with the lifter on random keypoints (weights
are random too), and deleted. A row that could not be written says why. ONNX wants
`pip install -c constraints.txt -e '.[onnx]'`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import torch
from lifters import ROWS, Row

import poseda
from poseda.engine.export import export_lifter
from poseda.errors import PosedaError

FORMATS = (".pt2", ".onnx")


def main() -> None:
    """Print the table, each row from a process of its own."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--only", default="", help="lifters or lines to export, with commas between")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch")
    arguments = parser.parse_args()
    columns = [f"{form}: mm | MiB | s" for form in FORMATS]
    print(f"torch {torch.__version__}\n\n| lifter | {' | '.join(columns)} |\n|---|{'---:|' * 3 * len(FORMATS)}")
    wanted = set(arguments.only.split(",")) if arguments.only else None
    for row in ROWS:
        if wanted is None or {row.name, row.label} & wanted:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(exported, (row, arguments.threads)), flush=True)


def exported(row: Row, threads: int) -> str:
    """One line of the table."""
    torch.set_num_threads(threads)
    lifter = poseda.create_lifter(row.name, seed=0, **row.options)
    cells = []
    for form in FORMATS:
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                export = export_lifter(lifter, Path(folder) / f"lifter{form}")
            except PosedaError as error:
                cells.append(f"{str(error).removeprefix(folder)} | – | –")
                continue
            size = export.program.stat().st_size / 2**20
        cells.append(f"{export.difference_mm:.2g} | {size:.0f} | {time.perf_counter() - begin:.0f}")
    return f"| {row.label} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
