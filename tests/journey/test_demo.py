"""`manage.py demo` as a user runs it: one command on an empty machine."""

import os
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from tests.journey.processes import Child, all_processes, eventually

pytestmark = [
    pytest.mark.journey,
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="the demo needs a POSIX system"),
]

GUEST = {"customer": "Grace Hopper", "email": "grace.hopper@example.com", "article": "cups"}


class Demo(Child):
    """A running demo, and everything that it started."""

    def __init__(self, database: Path, *arguments: str, log: Path) -> None:
        self.database = database
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "EXAMPLE_DATABASE": str(database),
        }
        super().__init__(["manage.py", "demo", *arguments], environment=environment, log=log)

    @property
    def url(self) -> str:
        """Return where the shop is, once it says so."""
        found = eventually(lambda: re.search(r"The shop +(http\S+)", self.output) or not self.is_running, within=30)
        assert isinstance(found, re.Match), self.errors
        return found[1]

    @property
    def survivors(self) -> list[int]:
        """List the processes of the demo and of its cluster that are there."""
        lock = self.database.with_name(f"{self.database.name}-demo.lock")
        groups = {self.pid, *map(int, re.findall(r"\d+", lock.read_text() if lock.exists() else ""))}
        return [pid for pid, group, state in all_processes() if group in groups and state not in "ZX"]

    def ask(self, statement: str, *values: object) -> list[tuple]:
        """Run a statement on the demo's database, and return its rows; none while there are no tables yet."""
        with closing(sqlite3.connect(self.database, timeout=20)) as connection, connection:
            try:
                return connection.execute(statement, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise

    def states_of_mail_to(self, address: str) -> list[str]:
        """Return the states of the mails to this address."""
        statement = (
            "SELECT state FROM mail_outbox_outboxentry JOIN mail_outbox_recipient"
            " ON entry_id = mail_outbox_outboxentry.id WHERE address = ?"
        )
        return [state for (state,) in self.ask(statement, address)]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Start demos that do not outlive the test."""
    demos: list[Demo] = []

    def start(*arguments: str, database: str = "example.sqlite3") -> Demo:
        demos.append(Demo(tmp_path / database, *arguments, log=tmp_path / f"demo{len(demos)}"))
        return demos[-1]

    yield start
    for started in demos:
        for survivor in started.survivors:
            os.kill(survivor, signal.SIGKILL)
        started.kill()


class Browser:
    """Looks at the shop and presses its buttons."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = build_opener(HTTPCookieProcessor(CookieJar()))

    def look(self, path: str = "") -> str:
        """Return the page."""
        with self._opener.open(self._url + path, timeout=20) as response:
            return response.read().decode()

    def press(self, path: str, **fields: str) -> tuple[int, str]:
        """Send the front page's form to the path, and return the status and the page."""
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.look())
        assert token is not None
        form = urlencode({**fields, "csrfmiddlewaretoken": token[1]}).encode()
        try:
            response = self._opener.open(self._url + path, form, timeout=20)
        except HTTPError as error:
            response = error
        with response:
            return response.status, response.read().decode()


def test_it_delivers_everything_but_what_was_rolled_back_and_leaves_nothing_behind(demo: Callable[..., Demo]):
    began = datetime.now(UTC)
    run = demo("--exit-when-idle", "--orders", "4", "--readers", "60")

    code = run.wait(90)

    assert (code, run.errors) == (0, "")
    assert "64 mails settled" in run.output
    assert re.search(r"^newsletter +60\nshop +4$", run.output, re.MULTILINE)
    assert "neither an order nor a mail" in run.output
    [(first,)] = run.ask("SELECT min(finished_at) FROM mail_outbox_outboxentry")
    assert datetime.fromisoformat(first).replace(tzinfo=UTC) - began < timedelta(seconds=10)
    assert Counter(run.ask("SELECT state FROM mail_outbox_outboxentry")) == {("sent",): 64}
    assert run.states_of_mail_to("rolled.back@example.com") == []
    assert len(run.ask("SELECT id FROM shop_order")) == 4
    assert run.survivors == []


def test_mail_that_did_not_go_out_is_told_by_the_exit_code(demo: Callable[..., Demo]):
    run = demo("--exit-when-idle", "--orders", "1", "--readers", "120")
    waiting = "SELECT max(id) FROM mail_outbox_outboxentry WHERE state = 'queued' AND rank > 0 HAVING count(*) > 20"
    [(newsletter,)] = eventually(lambda: run.ask(waiting), within=30)

    run.ask("UPDATE mail_outbox_outboxentry SET state = 'failed' WHERE id = ?", newsletter)

    assert run.wait(90) == 4
    assert re.search(r"^newsletter +119 +1$", run.output, re.MULTILINE)


def test_a_person_orders_and_stops_it_all_with_ctrl_c(demo: Callable[..., Demo]):
    run = demo("--port", "0", "--readers", "60")
    browser = Browser(run.url)

    page = browser.look()
    created, thanks = browser.press("orders/", **GUEST)
    failed, sorry = browser.press("orders/fail/", **{**GUEST, "email": "nobody@example.com"})

    assert "Order, then fail" in page
    assert created == 201
    assert "written in one transaction" in thanks
    assert failed == 500
    assert "there is no order, and there is no mail" in sorry
    eventually(lambda: run.states_of_mail_to(GUEST["email"]) == ["sent"], within=20)
    assert run.states_of_mail_to("nobody@example.com") == []
    assert GUEST["email"] in browser.look("mails/")

    os.kill(run.pid, signal.SIGINT)

    assert run.wait(60) == 0, run.errors
    assert "Stopped." in run.output
    assert run.survivors == []


def test_sigterm_stops_it_as_well_in_the_middle_of_a_newsletter(demo: Callable[..., Demo]):
    run = demo("--port", "0", "--readers", "500")
    eventually(lambda: run.ask("SELECT id FROM mail_outbox_outboxentry WHERE state = 'sending'"), within=30)

    run.terminate()

    assert run.wait(60) == 0, run.errors
    assert "Stopped." in run.output
    assert run.survivors == []
    assert run.ask("SELECT id FROM mail_outbox_outboxentry WHERE state = 'sending'") == []


def test_a_database_or_a_port_that_is_taken_is_told(demo: Callable[..., Demo]):
    first = demo("--port", "0", "--readers", "1")
    port = first.url.rstrip("/").rpartition(":")[2]

    same_database = demo("--port", "0")
    same_port = demo("--port", port, database="other.sqlite3")

    assert (same_database.wait(30), same_port.wait(30)) == (1, 1)
    assert f"already: process {first.pid}" in same_database.errors
    assert f"Port {port} cannot be used" in same_port.errors
    assert first.is_running
