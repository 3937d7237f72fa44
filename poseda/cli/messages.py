"""Each way in which a command line can be wrong, said in one line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from poseda.cli.typed import unknown_key
from poseda.errors import ConfigError, PosedaError, choose

FLAGS = {
    "-m",
    "--multirun",
    "-r",
    "--run",
    "--resolve",
    "--version",
    "--hydra-help",
    "-sc",
    "--shell-completion",
}
FLAGS_WITH_VALUE = {"-c", "--cfg", "-p", "--package", "-i", "--info", "-cd", "--config-dir"}
IN_EXPERIMENT = re.compile(r"In 'experiment/(.*?)': .* composing config: (.*?)(?: full_key:.*)?$")
GROUPS = ("source", "target", "lifter")
NO_NAME = ("", "[", "{")
GROUP_WORDS = {"source": "source domain", "target": "target domain"}


def check_spelling(arguments: Sequence[str]) -> None:
    """Raise ConfigError, with the right spelling, for flag style and for words that are not key=value."""
    rest = list(arguments)
    before = ""
    while rest:
        word = rest.pop(0)
        flag = word.split("=")[0]
        if flag in FLAGS_WITH_VALUE:
            rest = rest if "=" in word else rest[1:]
        elif word.startswith("-") and flag not in FLAGS:
            following = rest[0] if rest and rest[0][0:1] != "-" and "=" not in rest[0] else ""
            raise ConfigError(flag_style(word, following))
        elif "=" not in word and not word.startswith("-"):
            right = f"{before}{word}" if before.endswith("=") else "key=value"
            raise ConfigError(f"'{word}' is not an option: write {right}, without spaces around '='.")
        elif flag == "lifter.name":
            raise ConfigError(f"{word}: write lifter=NAME, which brings that lifter's own options.")
        elif (
            flag in GROUPS
            and not followed_by_value(word, rest)
            and (word == f"{flag}=null" or word[len(flag) + 1 :][0:1] in NO_NAME)
        ):
            raise ConfigError(f"{word}: {flag}= takes one name; add --help to see which there are.")
        before = word


def followed_by_value(word: str, rest: Sequence[str]) -> bool:
    """Whether a space was left after the '=' of `word`."""
    return word.endswith("=") and bool(rest) and "=" not in rest[0]


def flag_style(word: str, following: str) -> str:
    key, _, value = word.lstrip("-").partition("=")
    right = f"{key.replace('-', '_')}={value or following or 'VALUE'}"
    return f"Options are written key=value without dashes: {right} (not {f'{word} {following}'.strip()})."


def one_line(error: BaseException) -> str | None:
    """The line for an error that a user can mend; None for one that is a fault of ours."""
    if isinstance(error, MissingConfigException):
        return missing_choice(error)
    if isinstance(error, HydraException) and isinstance(error.__cause__, OmegaConfBaseException):
        return option_line(error.__cause__)
    if isinstance(error, OmegaConfBaseException):
        return option_line(error)
    if isinstance(error, OverrideParseException):
        return f"'{error.override}' cannot be read as key=value: quote values that hold special characters."
    if isinstance(error, HydraException) and str(error).startswith("Ambiguous value for argument"):
        return f"{str(error).splitlines()[0].split()[-1]} gives several values: add -m to run once for each."
    if isinstance(error, HydraException) and (found := IN_EXPERIMENT.match(joined(str(error)))):
        return f"experiment={found[1]} does not fit this command: {found[2]}."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, PosedaError | HydraException | OSError):
        return joined(str(error))
    return None


def joined(text: str) -> str:
    return " ".join(text.split())


def missing_choice(error: MissingConfigException) -> str:
    """source=h36 -> the names that exist and the nearest."""
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    try:
        choose(name, error.options or (), GROUP_WORDS.get(group, group))
    except ConfigError as unknown:
        return str(unknown)
    return joined(str(error))


def option_line(error: OmegaConfBaseException) -> str:
    """An unknown key with its nearest neighbour, or a value of the wrong type."""
    key = error.full_key or str(error.key)
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        siblings = [] if error.parent_node is None else [str(name) for name in error.parent_node]
        return str(unknown_key(key, siblings))
    if isinstance(error, MissingMandatoryValue):
        return f"{key} has no value: give {key}=VALUE."
    first = joined(str(error.msg or error).splitlines()[0])
    if "is not a ListConfig" in first:
        return f"{key} takes a list: {key}=[VALUE,VALUE]."
    if first.startswith("Invalid type assigned"):
        return f"{key} holds options of its own: {key}.OPTION=VALUE; add --help to see them."
    return f"{key}: {first}."
