"""What a verb of `manage.py outbox` is, and what it writes to."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandParser, OutputWrapper

ERROR = 1
USAGE = 2
UNHEALTHY = 3
SOME_FAILED = 4
INTERRUPTED = 130

Options = Mapping[str, Any]
"""What the command line said, by name."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where a verb writes: results to stdout, words about its work to stderr."""

    stdout: OutputWrapper
    stderr: OutputWrapper

    def write(self, text: str) -> None:
        """Write a line of the result."""
        self.stdout.write(text)

    def write_json(self, values: Mapping[str, Any]) -> None:
        """Write the result as one JSON object in one line."""
        self.stdout.write(json.dumps(values))

    def write_bytes(self, data: bytes) -> None:
        """Write the result as it is, byte for byte where stdout takes bytes."""
        binary = getattr(self.stdout, "buffer", None)
        if binary is None:
            self.stdout.write(data.decode("utf-8", "replace"))
        else:
            binary.write(data)

    def say(self, text: str) -> None:
        """Tell the person at the terminal something that is no part of the result."""
        self.stderr.write(text, style_func=str)

    def teller(self, options: Options) -> Callable[[str], object] | None:
        """Return what tells a person how far it has come; None where JSON was asked for, and nobody reads along."""
        return None if options["json"] else self.say


def _no_arguments(parser: CommandParser) -> None:
    """Declare nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One verb; `run` raises CommandError with a `returncode` where the exit code is not 0."""

    name: str
    help: str
    run: Callable[[Options, Output], None]
    add_arguments: Callable[[CommandParser], None] = _no_arguments


def add_json(parser: CommandParser) -> None:
    """Declare the option that every verb with a result has."""
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
