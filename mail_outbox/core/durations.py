"""Lengths of time in words."""

from datetime import timedelta


def humanise(length: timedelta) -> str:
    """Write a length of time in its two largest units, as in `3 min 12 s`."""
    return _write(length, 2)


def roughly(length: timedelta) -> str:
    """Write a length of time in its largest unit, as in `3 min`."""
    return _write(length, 1)


def _write(length: timedelta, most: int) -> str:
    seconds = max(0, int(length.total_seconds()))
    units = {"d": seconds // 86400, "h": seconds // 3600 % 24, "min": seconds // 60 % 60, "s": seconds % 60}
    largest = next((place for place, count in enumerate(units.values()) if count), len(units) - 1)
    shown = list(units.items())[largest : largest + most]
    return " ".join(f"{count} {unit}" for unit, count in shown if count) or "0 s"
