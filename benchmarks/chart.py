"""Bars as a small SVG that is read in light and in dark."""

from collections.abc import Sequence
from html import escape

from benchmarks.table import text_of

WIDTH, LABEL, NUMBER, ROW = 720, 300, 70, 22


def bars(rows: Sequence[tuple[str, float]], title: str) -> str:
    """Return a chart with one bar for each row, the names on the left and the numbers on the right."""
    most = max((value for _, value in rows), default=1.0) or 1.0
    height = ROW * len(rows) + 34
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        "<style>text{font:13px sans-serif;fill:#222}.bar{fill:#9aa7b5}.ours{fill:#0b6e4f}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}.ours{fill:#3cb489}}</style>",
        f'<text x="0" y="16" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (label, value) in enumerate(rows):
        y = 30 + number * ROW
        width = max(1, round((WIDTH - LABEL - NUMBER) * value / most))
        kind = "ours" if label.startswith("mail_outbox") else "bar"
        lines += [
            f'<text x="{LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{width}" height="{ROW - 6}"/>',
            f'<text x="{LABEL + width + 6}" y="{y + 13}">{text_of(float(value))}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
