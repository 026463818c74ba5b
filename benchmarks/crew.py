"""Measured processes: started with settings of their own, told what to do, watched, and ended."""

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.settings_name import HANDED_OVER

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 300.0
"""Seconds that one answer may take."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a crew has done: its answers, the seconds by the clock, those of CPU, and the most memory it held in MB."""

    answers: list[Any]
    seconds: float
    cpu: float
    megabytes: float


class Child:
    """One process that obeys `benchmarks.child`."""

    def __init__(
        self, settings: Mapping[str, Any], log: Path, arguments: Sequence[str] = ("-m", "benchmarks.child")
    ) -> None:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            HANDED_OVER: json.dumps(settings),
            "PYTHONWARNINGS": "ignore",
        }
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, 9)
            self._process.wait()

    def tell(self, do: str, **keywords: Any) -> None:
        """Begin something; `answer` waits for its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, "with": keywords}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer: its result, and the CPU time it took."""
        assert self._process.stdout is not None
        is_there, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        line = self._process.stdout.readline() if is_there else ""
        if not line:
            raise RuntimeError(
                f"A measured process has ended, or has taken too long: {self._log.read_text(errors='replace')[-3000:]}"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def call(self, do: str, **keywords: Any) -> Any:
        """Do something, and return its result."""
        self.tell(do, **keywords)
        return self.answer()["result"]

    def stop(self) -> None:
        """Ask a process that takes no orders to end, and wait for it."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(30)


def work(children: Sequence[Child], do: str, **keywords: Any) -> Work:
    """Let all children do the same at once, and return what it took."""
    with watched([child.pid for child in children]) as memory:
        began = time.perf_counter()
        for child in children:
            child.tell(do, **keywords)
        answers = [child.answer() for child in children]
        seconds = time.perf_counter() - began
    return Work(
        answers=[answer["result"] for answer in answers],
        seconds=seconds,
        cpu=sum(answer["cpu"] for answer in answers),
        megabytes=max(memory, default=0.0),
    )


@contextmanager
def watched(pids: Sequence[int]) -> Iterator[list[float]]:
    """Look at the memory of the processes and their children several times a second; Linux only."""
    seen: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.append(sum(megabytes_of(pid) for pid in family(pids)))
            over.wait(0.25)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def family(pids: Sequence[int]) -> Iterator[int]:
    """Yield the processes and all that descend from them."""
    for pid in pids:
        yield pid
        with suppress(OSError):
            children = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
            yield from family([int(child) for child in children.split()])


def megabytes_of(pid: int) -> float:
    """Return the memory of a process, what it shares with others counted in parts."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0
