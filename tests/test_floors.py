"""Imports point down only; import-linter checks the floors, these tests need nothing but Python."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mail_outbox"

IMPORT_CORE = """
import importlib, pkgutil, sys
import mail_outbox.core

for module in pkgutil.walk_packages(mail_outbox.core.__path__, "mail_outbox.core."):
    importlib.import_module(module.name)

from django.conf import settings

print("configured" if settings.configured else "untouched")
print(*sorted(name for name in sys.modules if name.startswith("mail_outbox.") and not name.startswith("mail_outbox.core")))
"""


def modules() -> list[Path]:
    """List the package's modules; migrations are Django's."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)


def name_of(path: Path) -> str:
    """Return a module's dotted name below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Return everything that a module imports, functions' imports included, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def is_in(name: str, package: str) -> bool:
    """Tell whether the dotted name is the package or lies in it."""
    return name == package or name.startswith(f"{package}.")


def test_core_imports_in_a_bare_interpreter():
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}

    result = subprocess.run(
        [sys.executable, "-c", IMPORT_CORE], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["untouched"]


@pytest.mark.parametrize(
    ("target", "rooms"),
    [
        pytest.param("django.conf.settings", ["conf"], id="settings"),
        pytest.param("django_q", ["tasks"], id="django-q2"),
        pytest.param("anymail", ["core.envelope", "delivery", "tracking"], id="Anymail"),
    ],
)
def test_only_its_rooms_import(target: str, rooms: list[str]):
    importers = {name_of(path) for path in modules() if any(is_in(name, target) for name in imports_of(path))}

    assert [name for name in importers if not any(is_in(name, room) for room in rooms)] == []


@pytest.mark.parametrize("stranger", ["django.conf", "django.db", "random", "socket", "time"])
def test_core_knows_no_database_settings_clock_or_network(stranger: str):
    core = [path for path in modules() if is_in(name_of(path), "core")]

    assert core
    assert [name_of(path) for path in core if any(is_in(name, stranger) for name in imports_of(path))] == []


def test_the_package_itself_is_empty():
    assert (PACKAGE / "__init__.py").read_text(encoding="utf-8") == ""
