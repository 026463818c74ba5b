"""How slow the machine is while a test runs: a number of seconds is meant for a machine that has nothing else to do."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

COMPUTE = """
import sys, threading, time
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
began, worked = time.monotonic(), time.process_time()
while not over.is_set() or time.process_time() - worked < 0.1:
    pass
print((time.monotonic() - began) / (time.process_time() - worked))
"""


class Pace:
    """What was measured, once it is over."""

    slowness = 1.0
    """How many times longer a process took that did nothing but compute than it would have taken with a processor of its own."""


@contextmanager
def measured_pace() -> Iterator[Pace]:
    """Let a process compute meanwhile, and yield what tells afterwards how slow that was."""
    pace = Pace()
    with subprocess.Popen(
        [sys.executable, "-c", COMPUTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="ascii"
    ) as process:
        try:
            yield pace
        except BaseException:
            process.kill()
            raise
        output, _ = process.communicate()
    pace.slowness = max(1.0, float(output))
