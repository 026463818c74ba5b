"""Looks over the shoulder of the workers of a run, and breaks them where a run asks for that."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings


class TotalQueueConfig(AppConfig):
    """Installed in the processes of a run only."""

    name = "tests.totalqueue"
    label = "totalqueue"

    def ready(self) -> None:
        """Sabotage first, so that what is watched is what runs."""
        from tests.totalqueue.sabotage import SABOTAGES

        if settings.GIVEN["sabotage"]:
            SABOTAGES[settings.GIVEN["sabotage"]]()
        watch_settling(Path(settings.GIVEN["history"]))


def watch_settling(path: Path) -> None:
    """Write down which successes a worker has settled, once it has been told that they are written."""
    from mail_outbox import transitions
    from mail_outbox.transitions import Settlement
    from tests.totalqueue.history import History

    settle, history = transitions.settle, History(path)

    def watched(settlements: Sequence[Settlement], **keywords: Any) -> list[Settlement]:
        effective = settle(settlements, **keywords)
        for settlement in settlements:
            if settlement.is_plain_success:
                history.write("settled", key=settlement.entry.idempotency_key)
        return effective

    transitions.settle = watched
