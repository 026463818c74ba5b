"""What waits for a mailer at rest, and may go by another one of its route."""

import logging

from mail_outbox import transitions
from mail_outbox.conf import Conf
from mail_outbox.core.routing import Route
from mail_outbox.drain.fitness import Fitness
from mail_outbox.drain.settler import luck
from mail_outbox.models import OutboxEntry

logger = logging.getLogger("mail_outbox.worker")


class Rerouter:
    """Looks only at mailers that rest and belong to a route, so that it costs nothing where all is well."""

    def __init__(self, database: str, fitness: Fitness) -> None:
        self._database = database
        self._fitness = fitness
        self._resting: frozenset[str] = frozenset()

    def is_news(self, conf: Conf) -> bool:
        """Tell whether a mailer has come to rest, or its rest is over, since the last look."""
        return self._find_resting(conf) != self._resting

    def reroute(self, conf: Conf) -> int:
        """Hand over a batch of what waits for each mailer at rest, and return how many entries that were."""
        self._resting = self._find_resting(conf)
        return sum(
            self._hand_over(route, mailer, conf)
            for route in conf.all_routes
            for mailer in route.mailers
            if mailer in self._resting
        )

    def _find_resting(self, conf: Conf) -> frozenset[str]:
        mailers = {mailer for route in conf.all_routes for mailer in route.mailers}
        return frozenset(mailer for mailer in mailers if self._fitness.is_shut(mailer, conf))

    def _hand_over(self, route: Route, mailer: str, conf: Conf) -> int:
        fit = [each for each in route.mailers if not self._fitness.is_resting(each, conf)]
        to = route.choose(fit, luck=luck())
        if to is not None:
            return self._reroute(route, mailer, to, limit=transitions.REROUTE_BATCH)
        # Whoever has rested long enough is tried with one message, which the others would otherwise never bring.
        rested = [each for each in route.mailers if not self._fitness.is_shut(each, conf) and not self._has_work(each)]
        to = route.choose(rested, luck=luck())
        return 0 if to is None else self._reroute(route, mailer, to, limit=1)

    def _reroute(self, route: Route, mailer: str, to: str, *, limit: int) -> int:
        moved = transitions.reroute(route.name, mailer, to=to, limit=limit, database=self._database)
        if moved:
            logger.info("entries rerouted", extra={"route": route.name, "mailer": mailer, "to": to, "entries": moved})
        return moved

    def _has_work(self, mailer: str) -> bool:
        return OutboxEntry.objects.using(self._database).queued(mailer).exists()
