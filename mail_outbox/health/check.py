"""The same for django-health-check 4, which has to be installed for this module to be imported."""

from dataclasses import dataclass

from asgiref.sync import sync_to_async
from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable

from mail_outbox.health import judge, words_of


@dataclass
class OutboxHealthCheck(HealthCheck):  # type: ignore[misc]
    """Fails where mail does not flow, and says why."""

    async def run(self) -> None:
        # In Django's own thread, whose connections Django closes when the request is over.
        problems = await sync_to_async(judge, thread_sensitive=True)()
        if problems:
            raise ServiceUnavailable(" ".join(words_of(problems)))
