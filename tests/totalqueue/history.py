"""What happened, one JSON line each, appended by many processes to one file."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]


class History:
    """Appends events; a line is one write, so that no other process comes between, and no kill leaves half of it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: str, **facts: Any) -> None:
        """Append one event."""
        os.write(self._file, json.dumps({"event": event, **facts}).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(path: Path) -> Iterator[Event]:
    """Yield the events in the order in which they were written."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def of_kind(events: Iterable[Event], *kinds: str) -> list[Event]:
    """Return the events of these kinds."""
    return [event for event in events if event["event"] in kinds]
