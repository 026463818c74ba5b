"""Every benchmark runs, with tiny numbers, and writes down what it has found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import TABLES
from benchmarks.chart import bars
from benchmarks.page import write
from benchmarks.table import Target

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.skipif(
    os.environ.get("MAIL_OUTBOX_TEST_DB", "sqlite") != "sqlite" or not hasattr(os, "fork"),
    reason="runs on sqlite only, where there is fork",
)


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_a_benchmark_writes_what_it_has_found(table: str, tmp_path: Path):
    arguments = ["--size", "tiny", "--repeats", "1", "--database", "sqlite", "--results", str(tmp_path)]

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", table, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / f"{table}.json").read_text(encoding="utf-8"))
    assert found["rows"]
    assert all(len(row) == len(found["columns"]) for row in found["rows"])
    assert found["machine"]["django"]


def test_the_page_keeps_what_a_person_wrote(tmp_path: Path):
    result = {
        "title": "Drain",
        "about": "What it is.",
        "columns": ["who", "rate"],
        "rows": [["mail_outbox", 300.0]],
        "notes": [],
        "bars": [["mail_outbox", 300.0]],
        "bars_show": "messages/s",
        "repeats": 3,
        "size": "usual",
        "targets": [{"what": "drain", "target": "≥ 1 x", "measured": 1.5, "unit": "x", "verdict": "met"}],
        "machine": {
            "cores": 4,
            "python": "3.13",
            "django": "6.1",
            "sqlite": "3",
            "postgresql": None,
            "load_average_before": 1,
            "load_average_after": 2,
        },
    }
    (tmp_path / "drain.json").write_text(json.dumps(result), encoding="utf-8")
    page = tmp_path / "speed.md"
    mark = "<!-- measured: {} -->\nold\n<!-- end of what was measured -->"
    page.write_text(f"Before\n\n{mark.format('targets')}\n{mark.format('drain')}\n\nAfter\n", encoding="utf-8")

    write(tmp_path, page)

    text = page.read_text(encoding="utf-8")
    assert text.startswith("Before\n")
    assert text.endswith("After\n")
    assert "old" not in text
    assert "| mail_outbox | 300 |" in text
    assert "| drain | ≥ 1 x | 1.5 x | met |" in text
    assert (tmp_path / "speed-drain.svg").exists()


@pytest.mark.parametrize(
    ("measured", "bounds", "verdict"),
    [
        (1.0, {"least": 0.95}, "met"),
        (0.76, {"least": 0.95}, "missed by 20%"),
        (1.5, {"most": 1.5}, "met"),
        (3.0, {"most": 1.5}, "missed by 100%"),
    ],
)
def test_a_target_says_by_how_much_it_was_missed(measured: float, bounds: dict[str, float], verdict: str):
    assert Target(what="speed", measured=measured, **bounds).verdict == verdict


def test_the_longest_bar_is_the_largest_number():
    chart = bars([("mail_outbox", 10.0), ("other", 5.0)], "Speed")

    assert 'class="ours" x="300" y="30" width="350"' in chart
    assert 'class="bar" x="300" y="52" width="175"' in chart
