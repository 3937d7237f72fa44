"""Table over seeds: mean ± standard deviation of each row of the results.json files of one experiment.

    python experiments/real_motion/summarise.py runs/cmu17@h36m-hdm05_17@3dhp_test/real_motion

The last column is the share of the gap between source only and oracle that a row closes, computed seed by seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from poseda.cli.adaptation import ORACLE, SOURCE_ONLY
from poseda.errors import MissingDataError

MEASURES = {"mpjpe": "MPJPE", "pa_mpjpe": "PA-MPJPE", "n_mpjpe": "N-MPJPE", "pck": "PCK", "auc": "AUC"}


def spread(values: list[float], digits: int = 1) -> str:
    """Mean ± sample standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def gap_closed(rows: dict[str, dict[str, float]], label: str) -> float:
    """Share of the MPJPE gap from source only to the oracle, in %."""
    start, best = rows[SOURCE_ONLY]["mpjpe"], rows[ORACLE]["mpjpe"]
    return 100 * (start - rows[label]["mpjpe"]) / (start - best)


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description="mean and spread over the seeds of one experiment")
    parser.add_argument("folder", type=Path, help="holds seed0/results.json, seed1/results.json, ...")
    folder = parser.parse_args().folder
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("seed*/results.json"))]
    if not records:
        raise MissingDataError(f"{folder} holds no seed*/results.json: run the experiment first.")
    seeds = [{label: row["values"] for label, row in record["results"]["rows"].items()} for record in records]
    print(f"| stages | {' | '.join(MEASURES.values())} | gap closed, % |")
    print("|---|" + "---:|" * (len(MEASURES) + 1))
    for label in seeds[0]:
        cells = [spread([rows[label][measure] for rows in seeds]) for measure in MEASURES]
        closed = spread([gap_closed(rows, label) for rows in seeds], 0) if ORACLE in seeds[0] else "-"
        print(f"| {label} | {' | '.join(cells)} | {closed} |")
    print(f"\n{len(records)} seeds; {records[0]['protocol']}")


if __name__ == "__main__":
    main()
