"""A queue with one reader, who takes away only what is dealt with: an exception from a signal's handler loses nothing."""

import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Tray(Generic[Item]):
    """What threads put down for their one reader, in order.

    A signal's handler may raise between any two bytecodes of the main thread, also before what a `get` returns has a name.
    What lies here stays until the reader says that it stands somewhere else.
    """

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        # One ring for each item, or an old one too many; a Condition's lock could be left locked by such an exception.
        self._bell: SimpleQueue[None] = SimpleQueue()

    def __bool__(self) -> bool:
        return bool(self._items)

    def put(self, item: Item) -> None:
        """Put an item down; any thread may."""
        self._items.append(item)
        self._bell.put(None)

    def first(self, timeout: float) -> Item | None:
        """Return the item that has lain longest, and let it lie; None where none comes within so many seconds."""
        until = time.monotonic() + timeout
        while not self._items:
            left = until - time.monotonic()
            try:
                self._bell.get(block=left > 0, timeout=max(left, 0.0))
            except Empty:
                break
        return self._items[0] if self._items else None

    def drop_first(self) -> None:
        """Take away what `first` has returned."""
        self._items.popleft()
        if not self._bell.empty():
            self._bell.get_nowait()
