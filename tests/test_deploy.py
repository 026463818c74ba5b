"""The files in deploy/ are what their readers understand, agree with the page and with django-q2's timeout."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from example_project import settings as example

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "how-to" / "deploy.md").read_text(encoding="utf-8")
UNIT = DEPLOY / "systemd" / "qcluster.service"
SUPERVISOR = DEPLOY / "supervisor" / "qcluster.conf"
SETTINGS = """
import json
from example_project import settings
print(json.dumps([settings.DATABASES["default"], settings.Q_CLUSTER]))
"""


def ini(text: str) -> configparser.ConfigParser:
    """Read an INI file as its owner does: keys keep their case, only whole lines are comments."""
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#", ";"))
    parser.optionxform = str
    parser.read_string(text)
    return parser


def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((DEPLOY / "docker" / "compose.yml").read_text())


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def procfile() -> dict[str, str]:
    """Read the Procfile as honcho and Heroku do: what is no `name: command` does not count."""
    return dict(re.findall(r"^([A-Za-z0-9_-]+):\s*(.+)$", (DEPLOY / "Procfile").read_text(), re.MULTILINE))


class TestStopping:
    """The main process alone is asked, and everything has longer than a task may take."""

    def test_systemd(self):
        service = ini(UNIT.read_text())["Service"]

        assert service["KillMode"] == "mixed"
        assert service["KillSignal"] == "SIGINT"
        assert int(service["TimeoutStopSec"]) > example.Q_CLUSTER["timeout"]
        assert service["Restart"] == "always"

    def test_supervisor(self):
        program = ini(SUPERVISOR.read_text())["program:qcluster"]

        assert program["stopsignal"] == "INT"
        assert (program["stopasgroup"], program["killasgroup"]) == ("false", "true")
        assert int(program["stopwaitsecs"]) > example.Q_CLUSTER["timeout"]

    def test_compose(self):
        worker = compose()["services"]["worker"]

        assert worker["scale"] == 2
        assert all(compose()["services"][name]["init"] is True for name in ("web", "worker"))
        assert int(worker["stop_grace_period"].removesuffix("s")) > example.Q_CLUSTER["timeout"]

    def test_no_shell_stands_between_the_signal_and_the_cluster(self):
        [command] = re.findall(r"^CMD (.+)$", (DEPLOY / "docker" / "Dockerfile").read_text(), re.MULTILINE)

        assert json.loads(command) == ["python", "manage.py", "qcluster"]
        assert procfile()["worker"] == "exec python manage.py qcluster"


def test_the_page_quotes_the_files():
    files = [ini(UNIT.read_text()), ini(SUPERVISOR.read_text())]
    quoted = [ini(block) for block in blocks("ini")]

    assert [part.sections() for part in quoted] == [["Service"], ["program:qcluster"]]
    for part, file in zip(quoted, files, strict=True):
        for section in part.sections():
            assert part[section].items() <= file[section].items()


def test_the_page_quotes_the_compose_file():
    yaml = pytest.importorskip("yaml")
    [block] = blocks("yaml")

    assert yaml.safe_load(block)["services"]["worker"].items() <= compose()["services"]["worker"].items()


def test_the_compose_file_says_only_what_compose_knows():
    known = {
        *("build", "command", "depends_on", "environment", "healthcheck", "image", "init", "ports", "restart", "scale"),
        "stop_grace_period",
    }
    file = compose()

    assert set(file) == {"x-app", "services"}
    for name, service in file["services"].items():
        assert set(service) <= known, name
        assert isinstance(service.get("command", []), list), name  # the exec form
    assert (DEPLOY / "docker" / file["x-app"]["build"]["context"]).resolve() == ROOT
    assert (ROOT / file["x-app"]["build"]["dockerfile"]).exists()


def test_the_healthcheck_of_postgresql_asks_the_server_that_stays():
    """Its image answers on the socket while it sets the database up, with a server that it stops again."""
    test = compose()["services"]["db"]["healthcheck"]["test"]

    assert test[:2] == ["CMD", "pg_isready"]
    assert test[test.index("--host") + 1] == "127.0.0.1"


def test_the_image_installs_what_there_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (DEPLOY / "docker" / "Dockerfile").read_text()

    [extras] = re.findall(r'"\.\[([a-z,]+)\]"', lines)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    [python] = re.findall(r"^FROM python:([\d.]+)-slim$", lines, re.MULTILINE)
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]


def test_every_service_waits_for_what_it_needs():
    services = compose()["services"]

    assert set(services["worker"]["depends_on"]) == {"migrate", "redis"}
    for service in services.values():
        for name, need in service.get("depends_on", {}).items():
            assert name in services
            assert need["condition"] != "service_healthy" or "healthcheck" in services[name]
    assert services["migrate"]["command"][:3] == ["python", "manage.py", "migrate"]


def test_the_environment_of_the_containers_leads_the_example_to_postgresql_and_redis():
    given = compose()["x-app"]["environment"]
    result = subprocess.run(
        [sys.executable, "-c", SETTINGS],
        cwd=ROOT,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    database, cluster = json.loads(result.stdout)

    assert (database["ENGINE"], database["HOST"]) == ("django.db.backends.postgresql", "db")
    assert database["CONN_MAX_AGE"] > 0
    assert cluster["redis"] == given["EXAMPLE_REDIS"]
    assert "orm" not in cluster


def test_the_example_cluster_neither_repeats_nor_kills_what_it_should_not():
    cluster = example.Q_CLUSTER
    longest = max(options["deadline"] for options in example.MAIL_OUTBOX["MAILER_OPTIONS"].values())

    assert (example.MAIL_OUTBOX["SLICE"] + longest).total_seconds() + 5 <= cluster["timeout"] < cluster["retry"]
    assert cluster["max_attempts"] == 1
    assert cluster["ack_failures"]
    assert not cluster["catch_up"]
    assert cluster["recycle"] > 0


def test_the_procfile_starts_what_there_is():
    commands = procfile()

    assert set(commands) == {"release", "web", "worker"}
    module = re.search(r"gunicorn ([\w.]+)", commands["web"])
    assert module is not None
    assert (ROOT / (module[1].replace(".", "/") + ".py")).exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_its_unit(tmp_path: Path):
    unit = tmp_path / UNIT.name
    # What it names need not be on this machine.
    text = UNIT.read_text().replace("/srv/shop/venv/bin/python", sys.executable).replace("User=shop\n", "")
    unit.write_text(text.replace("/srv/shop", str(tmp_path)))

    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )

    if "Failed to" in result.stderr and unit.name not in result.stderr:
        pytest.skip(f"systemd-analyze does not work here: {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
    assert unit.name not in result.stderr


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not installed")
def test_docker_understands_the_compose_file():
    result = subprocess.run(
        ["docker", "compose", "-f", str(DEPLOY / "docker" / "compose.yml"), "config", "--quiet"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if "is not a docker command" in result.stderr or "unknown shorthand flag" in result.stderr:
        pytest.skip("docker has no compose here")
    assert result.returncode == 0, result.stderr
