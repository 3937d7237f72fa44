"""Turn raw data sets into archives, and look at data for faults: python -m poseda.prepare"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from poseda.cli.app import Command, run_command

if TYPE_CHECKING:
    from poseda.cli.schema import PrepareJob

COMMAND = Command(
    name="prepare",
    resumes=True,
    summary="turn a raw data set into archives, or say what is in some data and what looks wrong with it",
    examples=(
        ("dataset=3dhp raw=mpi_inf_3dhp", "archives in data/3dhp, which target=3dhp then uses"),
        ("dataset=h36m raw=downloads keypoints=cpn_ft_h36m_dbb", "Human3.6M with a detector's 2D"),
        ("dataset=cmu raw=allasfamc rig=3dhp_vnect8", "motion capture as the cameras of a rig see it"),
        ("check=data/3dhp", "what is in archives, and what looks wrong"),
        ("check=mpi_inf_3dhp dataset=3dhp", "the same of raw data, before anything is written"),
    ),
)


def prepare(job: PrepareJob) -> None:
    """Check the data, or prepare them with a progress line and say what came out."""
    from poseda.cli.checks import check_prepare
    from poseda.cli.preparing import check_data, prepare_data

    check_prepare(job)
    if job.check:
        check_data(job)
    else:
        prepare_data(job)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given words (sys.argv by default) and return its exit code."""
    return run_command(COMMAND, prepare, argv)


if __name__ == "__main__":
    sys.exit(main())
