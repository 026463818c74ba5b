"""From results to the page about speed: what stands between its markers, and the charts beside it."""

import re
from pathlib import Path
from typing import Any

from benchmarks.chart import bars
from benchmarks.table import RESULTS, markdown, read

PAGE = RESULTS.parent.parent / "docs" / "explanation" / "speed.md"
BLOCK = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end of what was measured -->)", re.DOTALL)


def write(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Write everything between the markers anew, and the charts."""

    def fill(found: re.Match[str]) -> str:
        name = found[2]
        text = targets(results) if name == "targets" else section(name, results, page.parent)
        return f"{found[1]}{text}\n{found[3]}"

    page.write_text(BLOCK.sub(fill, page.read_text(encoding="utf-8")), encoding="utf-8")


def section(name: str, results: Path, beside: Path) -> str:
    """Return one table with its chart and its circumstances."""
    result = read(name, results)
    if result is None:
        return f"Not measured yet: `python -m benchmarks {name}`."
    parts = [circumstances(result), markdown(result["columns"], result["rows"]), *result["notes"]]
    if result["bars"]:
        chart = f"speed-{name}.svg"
        title = f"{result['title']}: {result['bars_show']}"
        (beside / chart).write_text(bars(result["bars"], title), encoding="utf-8")
        parts.append(f"![{title}; the numbers are those of the table]({chart})")
    return "\n\n".join(parts)


def circumstances(result: dict[str, Any]) -> str:
    """Say in one line what it was measured on."""
    machine = result["machine"]
    database = f", PostgreSQL {machine['postgresql']}" if machine["postgresql"] else ""
    return (
        f"{result['about']}\n\n{machine['cores']} cores, Python {machine['python']}, Django {machine['django']}, "
        f"SQLite {machine['sqlite']}{database}; {result['repeats']} rounds, size `{result['size']}`, "
        f"load average {machine['load_average_before']} to {machine['load_average_after']}."
    )


def targets(results: Path) -> str:
    """Return every target with what was measured."""
    from benchmarks.__main__ import TABLES

    found = [target for name in TABLES for target in (read(name, results) or {"targets": []})["targets"]]
    rows = [
        (each["what"], each["target"], f"{each['measured']:.3g} {each['unit']}".strip(), each["verdict"])
        for each in found
    ]
    return markdown(("what", "target", "measured", "verdict"), rows)
