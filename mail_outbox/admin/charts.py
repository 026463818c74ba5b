"""Bars over the hours of a day, as numbers for an inline SVG: no script, no style attribute, one colour class per series."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext

from mail_outbox.outbox.overview import Hour

WIDTH, HEIGHT = 720, 160
LEFT, BOTTOM, TOP = 44, 20, 8
GAP = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour: a bar for what was sent and, on top of it, one for what failed; all numbers as texts for the SVG."""

    x: str
    width: str
    sent_y: str
    sent_height: str
    failed_y: str
    failed_height: str
    label: str
    shows_label: bool
    label_x: str
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars, and the lines behind them with their numbers."""

    width: int
    height: int
    left: int
    baseline: int
    bars: tuple[Bar, ...]
    lines: tuple[tuple[str, str, str], ...]


def chart_of(hours: Sequence[Hour]) -> Chart:
    """Return the chart of the hours."""
    most = _round_up(max([hour.sent + hour.failed for hour in hours] or [0]))
    room = HEIGHT - BOTTOM - TOP
    step = (WIDTH - LEFT) / max(len(hours), 1)

    def height_of(count: int) -> float:
        # What is there can be seen, however little it is.
        return max(count / most * room, 2.0) if count else 0.0

    bars = []
    for number, hour in enumerate(hours):
        sent, failed = height_of(hour.sent), height_of(hour.failed)
        x, base = LEFT + number * step + GAP / 2, HEIGHT - BOTTOM
        name = f"{hour.start:%H}:00"
        bars.append(
            Bar(
                x=f"{x:.1f}",
                width=f"{step - GAP:.1f}",
                sent_y=f"{base - sent:.1f}",
                sent_height=f"{sent:.1f}",
                failed_y=f"{max(base - sent - failed, 0):.1f}",
                failed_height=f"{failed:.1f}",
                label=name,
                shows_label=number % 4 == 0,
                label_x=f"{x + (step - GAP) / 2:.1f}",
                title=gettext("%(hour)s UTC: %(sent)s sent, %(failed)s failed")
                % {"hour": name, "sent": hour.sent, "failed": hour.failed},
            )
        )
    lines = [(f"{HEIGHT - BOTTOM - room * share:.1f}", f"{most * share:g}", str(LEFT - 6)) for share in (0, 0.5, 1)]
    return Chart(WIDTH, HEIGHT, LEFT, HEIGHT - BOTTOM, tuple(bars), tuple(lines))


def _round_up(count: int) -> int:
    """Return the next of 2, 4, 6, 8, 10, 20, 40 …, so that half of it is whole."""
    scale = 1
    while True:
        for step in (2, 4, 6, 8, 10):
            if count <= step * scale:
                return step * scale
        scale *= 10
