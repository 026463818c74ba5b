"""One table of results: its rows, its targets and its bars, as JSON and as Markdown."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What was aimed at, and what was measured; `most` where less is better."""

    what: str
    measured: float
    least: float | None = None
    most: float | None = None
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """Tell whether it was reached."""
        is_enough = self.least is None or self.measured >= self.least
        return is_enough and (self.most is None or self.measured <= self.most)

    @property
    def aim(self) -> str:
        """Return the target in words."""
        return (
            f"≥ {self.least:g} {self.unit}".strip()
            if self.least is not None
            else f"≤ {self.most:g} {self.unit}".strip()
        )

    @property
    def verdict(self) -> str:
        """Say met, or missed and by how much."""
        bound = self.least if self.least is not None else self.most
        if self.is_met or not bound:
            return "met" if self.is_met else "missed"
        return f"missed by {abs(self.measured - bound) / bound:.0%}"


@dataclass(kw_only=True)
class Table:
    """What one benchmark has found."""

    name: str
    title: str
    about: str
    columns: Sequence[str]
    rows: list[list[Any]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    bars: list[tuple[str, float]] = field(default_factory=list)
    bars_show: str = ""
    notes: list[str] = field(default_factory=list)

    def as_json(self, **circumstances: Any) -> str:
        """Return all of it as JSON, with what it was measured on."""
        targets = [
            {
                "what": each.what,
                "target": each.aim,
                "measured": round(each.measured, 3),
                "unit": each.unit,
                "verdict": each.verdict,
            }
            for each in self.targets
        ]
        return json.dumps({**asdict(self), "targets": targets, **circumstances}, indent=1, ensure_ascii=False) + "\n"


def read(name: str, directory: Path = RESULTS) -> dict[str, Any] | None:
    """Return the results of a table as they were written, or None."""
    path = directory / f"{name}.json"
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(text_of(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def text_of(cell: Any) -> str:
    """Return a number as people read it, and a dash for nothing."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def ratios(ones: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios of runs that stood next to each other."""
    return median(one / other for one, other in zip(ones, others, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
