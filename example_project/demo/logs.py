"""What this process logs goes to a file, so that the terminal stays readable."""

import logging
from pathlib import Path


def log_to(path: Path) -> None:
    """Start the file afresh, and send there what the web server and the shop log."""
    path.write_bytes(b"")
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in ("django", "django.server"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.getLogger().handlers = [handler]
