"""The simulation: workers, callers, people and faults in one thread, in an order that a seed decides and repeats."""

DATABASE = "default"
