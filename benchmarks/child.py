"""`python -m benchmarks.child`: a measured process, which does what it is told line by line until its input ends."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any


def main() -> None:
    """Set Django up, then obey."""
    # Whatever a contender prints must not end up between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import django
    from django.utils.module_loading import import_string

    django.setup()
    for line in sys.stdin:
        order = json.loads(line)
        before = cpu_seconds()
        result = import_string(order["do"])(**order["with"])
        answer: Mapping[str, Any] = {"result": result, "cpu": cpu_seconds() - before}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def cpu_seconds() -> float:
    """Return the CPU time of this process and of all its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
