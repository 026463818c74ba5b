"""Lines for people, and one live line where there is a terminal to draw it on."""

from contextlib import suppress

from django.core.management.base import OutputWrapper

CLEAR_LINE = "\r\x1b[K"


class Terminal:
    """Standard output, with at most one line that changes in place; once nobody reads it any more, it is silent."""

    def __init__(self, out: OutputWrapper) -> None:
        self._out = out
        self._is_live = False

    def say(self, text: str = "") -> None:
        """Print a line for good."""
        self._print(text, ending="\n")
        self._is_live = False

    def show(self, text: str) -> None:
        """Print a line that the next one replaces; nothing where the output is no terminal."""
        if self._out.isatty():
            self._print(text, ending="")
            self._is_live = True

    def _print(self, text: str, *, ending: str) -> None:
        # A terminal that was closed must not keep anybody from stopping what was started.
        with suppress(OSError):
            self._out.write(f"{CLEAR_LINE}{text}" if self._is_live else text, ending=ending)
            self._out.flush()
