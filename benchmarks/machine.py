"""What a result was measured on, without names of machines or paths."""

import os
import platform
from collections.abc import Sequence
from typing import Any

from benchmarks.stage import postgresql


def describe(databases: Sequence[str]) -> dict[str, Any]:
    """Return cores, load, and versions."""
    import sqlite3

    import django

    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "django": django.get_version(),
        "sqlite": sqlite3.sqlite_version,
        "postgresql": _postgresql_version() if "postgresql" in databases else None,
        "load_average_before": round(os.getloadavg()[0], 1),
    }


def _postgresql_version() -> str:
    with postgresql() as connection:
        version: str = connection.execute("SHOW server_version").fetchone()[0]
        return version.split(" ")[0]
