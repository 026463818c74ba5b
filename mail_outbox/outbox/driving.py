"""Who calls the drains: what a driver, django-q2 for one, tells of itself to those who may not know it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """How the sweep is scheduled: every so often, and when it is to run next."""

    every: timedelta
    next_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """What calls the drains: `wake` asks for one, `sweep` says how the sweep is scheduled, or None where it is not."""

    wake: Callable[[str], None]
    sweep: Callable[[], Sweep | None]


_drivers: list[Driver] = []


def use(driver: Driver) -> None:
    """Make it the driver of this process."""
    _drivers[:] = [driver]


def driver() -> Driver | None:
    """Return the driver, or None where only `manage.py outbox drain` delivers."""
    return _drivers[0] if _drivers else None
