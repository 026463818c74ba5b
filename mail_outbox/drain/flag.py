"""A flag for signal handlers."""


class Flag:
    """Whether something has been asked for; set by anybody, at any moment, and looked at now and then.

    Not an Event: its lock is not reentrant, and a handler that comes while the same thread is setting it waits for ever.
    """

    __slots__ = ("_is_set",)

    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it; a signal's handler may, also one that interrupts another."""
        self._is_set = True

    def clear(self) -> None:
        """Take it back."""
        self._is_set = False
