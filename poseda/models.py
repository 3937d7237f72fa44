"""List source models, show their cards, fetch those that are not in the package: python -m poseda.models"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from poseda.cli.app import Command, run_command

if TYPE_CHECKING:
    from poseda.cli.schema import ModelsJob

COMMAND = Command(
    name="models",
    summary="list the source models, show their cards, fetch those that are not in the package",
    examples=(
        ("", "a table of all models"),
        ("model=simplebaseline-cmu-h36mrig", "one model's card; a pattern such as model=*-cmu-* shows several"),
        ("output=docs/models.md", "all cards in a file"),
    ),
)


def models(job: ModelsJob) -> None:
    """Check, then do what is asked."""
    from poseda.cli.checks import check_output
    from poseda.cli.models import show_models

    if job.output:
        check_output(job.output, ".md")
    show_models(job)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given words (sys.argv by default) and return its exit code."""
    return run_command(COMMAND, models, argv)


if __name__ == "__main__":
    sys.exit(main())
