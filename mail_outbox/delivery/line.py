"""One sender thread's own connection to one mailer, and what it does with a parcel."""

import logging
import math
from dataclasses import replace

from mail_outbox.conf import MailerOptions
from mail_outbox.core.outcomes import Ambiguous, Cancelled, Kind, Outcome, Permanent
from mail_outbox.delivery import classify
from mail_outbox.delivery.carriers import Carrier, carrier_of
from mail_outbox.delivery.mailers import make_backend
from mail_outbox.delivery.parcel import Parcel
from mail_outbox.delivery.stamps import address, stamp, unstamp
from mail_outbox.delivery.trace import Phase, Trace

logger = logging.getLogger("mail_outbox.delivery")


class Line:
    """A connection to one mailer: opened when first needed, kept between deliveries, used by one thread only."""

    def __init__(self, alias: str, options: MailerOptions) -> None:
        self._alias, self._options = alias, options
        self._trace = Trace()
        self._carrier: Carrier | None = None
        self._deliveries = 0

    @property
    def is_open(self) -> bool:
        """Tell whether a connection is kept."""
        return self._carrier is not None

    @property
    def idle_after_seconds(self) -> float:
        """Return after how many seconds without a delivery the owner should close the line."""
        return self._options.idle_after.total_seconds()

    def deliver(self, parcel: Parcel) -> Outcome:
        """Make one attempt and return what it came to; whatever goes wrong is an outcome, never an exception."""
        self._trace.begin(parcel.deadline)
        try:
            outcome = self._attempt(parcel)
        except Exception as error:  # noqa: BLE001 - a sender thread outlives every mistake, ours included
            self._log(logging.ERROR, "delivery failed in a way nobody thought of", error)
            self._drop()
            return Ambiguous(code="unknown", text=classify.describe(error))
        except BaseException:
            self._drop()
            raise
        finally:
            unstamp(parcel.message)
        if outcome.code == "timeout" and self._trace.left() <= 0:
            outcome = replace(outcome, code="deadline")
        if self._deliveries >= self._options.messages_per_connection:
            self.close()
        self._trace.begin(math.inf)  # an answer or an exception would keep the message in memory
        return outcome

    def close(self) -> None:
        """Say goodbye and close; a server that does not answer that is not waited for."""
        carrier, self._carrier, self._deliveries = self._carrier, None, 0
        if carrier is not None:
            try:
                carrier.close()
            except Exception as error:  # noqa: BLE001 - nothing that happens now changes what was sent
                self._log(logging.DEBUG, "closing a mailer failed", error)

    def _attempt(self, parcel: Parcel) -> Outcome:
        if self._trace.left() <= 0:
            return classify.TOO_LATE
        if self._carrier is not None and not self._carrier.is_alive():
            self._drop()
        carrier, is_reused = self._carrier, self._carrier is not None
        try:
            carrier = carrier or carrier_of(make_backend(self._alias), self._trace)
        except Exception as error:  # noqa: BLE001 - a configuration can raise anything
            return classify.making_failed(error)
        try:
            frozen = stamp(parcel, carrier.backend, self._trace)
            address(parcel, carrier.backend)
            if not parcel.message.recipients():
                return nobody(parcel)
            if carrier.builds_mime:
                frozen.build_ahead()
        except Exception as error:  # noqa: BLE001 - so can a message
            return classify.building_failed(error)
        if self._trace.left() <= 0:
            return classify.TOO_LATE
        if not is_reused:
            try:
                self._open(carrier)
            except Exception as error:  # noqa: BLE001 - and so can a mailer
                self._drop()
                return classify.opening_failed(error)
        return self._send(carrier, parcel, is_reused=is_reused)

    def _open(self, carrier: Carrier) -> None:
        self._carrier, self._deliveries = carrier, 0
        self._trace.phase = Phase.OPEN
        carrier.open()

    def _send(self, carrier: Carrier, parcel: Parcel, *, is_reused: bool) -> Outcome:
        outcome, error = carrier.send(parcel.message)
        self._deliveries += 1
        if is_reused and carrier.was_stale(error):
            self._drop()
            return self._attempt(parcel)
        # Made anew, a mailer that is in trouble sees what has become of its configuration.
        if outcome.kind is Kind.MAILER or not carrier.may_stay_open(error):
            self._drop()
        return outcome

    def _drop(self) -> None:
        carrier, self._carrier, self._deliveries = self._carrier, None, 0
        if carrier is not None:
            carrier.drop()

    def _log(self, level: int, event: str, error: Exception) -> None:
        # Not the traceback: what an exception says may hold an address.
        logger.log(level, event, extra={"mailer": self._alias, "error": type(error).__name__})


def nobody(parcel: Parcel) -> Outcome:
    """Return the outcome of a message without recipients."""
    if parcel.only is None:
        return Cancelled(code="no recipients")
    return Permanent(code="no recipients", text="None of the recipients still open is a recipient of the message.")
