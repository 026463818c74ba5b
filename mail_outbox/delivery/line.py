"""One sender thread's own connection to one mailer, and what it does with a parcel."""

import logging
import math
from dataclasses import replace

from django.core.exceptions import ImproperlyConfigured

from mail_outbox.conf import MailerOptions, get_conf
from mail_outbox.core.outcomes import Ambiguous, Cancelled, Kind, Outcome, Permanent
from mail_outbox.delivery import classifiers, classify
from mail_outbox.delivery.carriers import Carrier, carrier_of
from mail_outbox.delivery.guard import guard_of, lead, nobody_left
from mail_outbox.delivery.keys import NO_KEY, recognise, stamp_key
from mail_outbox.delivery.mailers import make_backend
from mail_outbox.delivery.parcel import NotNow, Parcel
from mail_outbox.delivery.stamps import address, stamp, unstamp
from mail_outbox.delivery.trace import Phase, Trace

logger = logging.getLogger("mail_outbox.delivery")


class Line:
    """A connection to one mailer: opened when first needed, kept between deliveries, used by one thread only."""

    def __init__(self, alias: str, options: MailerOptions) -> None:
        self._alias, self._options = alias, options
        self._trace = Trace(mailer=alias, pipelining=options.pipelining)
        self._carrier: Carrier | None = None
        self._deliveries = 0

    @property
    def is_open(self) -> bool:
        """Tell whether a connection is kept."""
        return self._carrier is not None

    @property
    def proof(self) -> str:
        """Say what it proves that the line is open; empty where it is not."""
        return "" if self._carrier is None else self._carrier.proof

    def deliver(self, parcel: Parcel) -> Outcome:
        """Make one attempt and return what it came to; whatever goes wrong is an outcome, never an exception.

        Raises only what the parcel's gate raises.
        """
        try:
            guard = guard_of(get_conf())
        except ImproperlyConfigured as error:
            return classify.making_failed(error)
        if guard is None:
            return self._deliver(parcel)
        try:
            guarded = lead(parcel, guard)
        except Exception as error:  # noqa: BLE001 - a message can raise anything, and nothing was sent
            return classify.building_failed(error)
        return nobody_left() if guarded.is_nobody_left else guarded.read(self._deliver(guarded.parcel))

    def _deliver(self, parcel: Parcel) -> Outcome:
        self._trace.begin(parcel.deadline)
        try:
            outcome = self._attempt(parcel)
        except NotNow:
            self._trace.begin(math.inf)
            raise
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

    def stuck(self) -> Outcome | None:
        """Return what the delivery under way, past its deadline, has come to; None where it may have left.

        The one thing that another thread than the owner may ask.
        """
        return classify.stuck(self._trace)

    def connect(self, deadline: float) -> Outcome | None:
        """Open the connection by `deadline`, of `time.monotonic()`, and send nothing; return what went wrong, or None.

        Over SMTP this is a login. Anymail's mailers only prepare a session: their key is judged with the first message.
        """
        self._drop()
        self._trace.begin(deadline)
        try:
            carrier = carrier_of(make_backend(self._alias), self._trace)
        except Exception as error:  # noqa: BLE001 - a configuration can raise anything
            return classify.making_failed(error)
        try:
            self._open(carrier)
        except Exception as error:  # noqa: BLE001 - and so can a mailer
            self._drop()
            return classify.opening_failed(error)
        finally:
            self._trace.begin(math.inf)
        return None

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
            stamp_key(parcel, carrier.backend, self._trace)
            if not parcel.message.recipients():
                return nobody(parcel)
            if parcel.needs_key and self._trace.key is None:
                return NO_KEY
            if carrier.builds_mime:
                frozen.build_ahead(only_bytes=carrier.asks_for_bytes_only)
        except Exception as error:  # noqa: BLE001 - so can a message
            return classify.building_failed(error)
        if self._trace.left() <= 0:
            return classify.TOO_LATE
        if not is_reused:
            try:
                self._open(carrier)
            except Exception as error:  # noqa: BLE001 - and so can a mailer
                self._drop()
                said = classifiers.ask(error, mailer=self._alias, backend=carrier.backend)
                return said or classify.opening_failed(error, self._trace.objections)
        if parcel.gate is not None:
            parcel.gate()
        return self._send(carrier, parcel, is_reused=is_reused)

    def _open(self, carrier: Carrier) -> None:
        self._carrier, self._deliveries = carrier, 0
        self._trace.phase = Phase.OPEN
        carrier.open()

    def _send(self, carrier: Carrier, parcel: Parcel, *, is_reused: bool) -> Outcome:
        outcome, error = carrier.send(parcel.message)
        outcome = recognise(outcome, parcel, self._trace)
        self._deliveries += 1
        if is_reused and carrier.was_stale(error):
            self._drop()
            del outcome, error  # the frames of what was raised hold a copy of the message
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
