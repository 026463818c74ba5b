"""MAIL, RCPT and DATA in one piece (RFC 2920), where the server announces that it takes them so."""

import contextlib
import re
import smtplib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mail_outbox.delivery.policy import MAILBOX

MOST = 4096
"""Bytes of commands in one piece: far less than lies between the two, so that neither waits for the other to read."""
STEPS = ("sendmail", "mail", "rcpt", "data", "rset", "docmd", "putcmd", "send", "getreply", "ehlo_or_helo_if_needed")
"""What must be smtplib's own: a class that says something else, or in another way, is let say it."""
PLAIN = re.compile(MAILBOX)
GO_ON = 354


class Connection(Protocol):
    """What is needed of a connection of smtplib's."""

    does_esmtp: bool

    def ehlo_or_helo_if_needed(self) -> None:
        """Greet the server."""

    def has_extn(self, opt: str) -> bool:
        """Tell whether the server announces the extension."""

    def send(self, s: Any) -> None:
        """Send the bytes."""

    def getreply(self) -> tuple[int, bytes]:
        """Read one answer."""

    def close(self) -> None:
        """Close the socket."""

    def rset(self) -> tuple[int, bytes]:
        """End the transaction."""


def is_smtplibs_own(kind: type[smtplib.SMTP]) -> bool:
    """Tell whether the class holds the conversation as smtplib does."""
    return all(getattr(kind, step) is getattr(smtplib.SMTP, step) for step in STEPS)


def commands(connection: Connection, sender: Any, recipients: Any, size: int) -> bytes | None:
    """Return what to send in one piece, word for word what smtplib says; None where it has to go one by one."""
    connection.ehlo_or_helo_if_needed()
    if not (
        connection.does_esmtp and connection.has_extn("pipelining") and isinstance(recipients, list) and recipients
    ):
        return None
    paths = [_path(each) for each in (sender, *recipients)]
    if None in paths:
        return None
    option = f" size={size}" if connection.has_extn("size") else ""
    lines = (f"mail FROM:{paths[0]}{option}", *(f"rcpt TO:{path}" for path in paths[1:]), "data", "")
    text = "\r\n".join(lines).encode("ascii")
    return text if len(text) <= MOST else None


def _path(address: Any) -> str | None:
    """Return the address as it stands in a command; None where it is out of the ordinary."""
    if type(address) is not str:
        return None
    # Before Django 6.0 it may still have a name.
    path = f"<{address}>" if PLAIN.fullmatch(address) else smtplib.quoteaddr(address)
    return path if PLAIN.fullmatch(path[1:-1]) else None


def agree(
    connection: Connection,
    sender: str,
    recipients: Sequence[str],
    *,
    skim: Callable[[], tuple[int, bytes]],
    refused: dict[str, tuple[int, bytes]],
) -> dict[str, tuple[int, bytes]]:
    """Read the answers to MAIL and to every RCPT, and return whom the server refused; the answer to DATA comes next.

    Raises what smtplib raises where nothing will be sent. The answers to what had been said too soon are skimmed then, and
    a server that waits for content all the same is hung up on: without the final dot there is no message.
    """
    code, text = connection.getreply()
    if code != 250:
        _leave(connection, code, skim, answers=len(recipients) + 1)
        raise smtplib.SMTPSenderRefused(code, text, sender)
    errors: dict[str, tuple[int, bytes]] = {}
    for number, each in enumerate(recipients):
        code, text = connection.getreply()
        if code not in (250, 251):
            errors[each] = refused[each] = (code, text)
        if code == 421 or len(errors) == len(recipients):
            _leave(connection, code, skim, answers=len(recipients) - number)
            raise smtplib.SMTPRecipientsRefused(errors)
    return errors


def _leave(connection: Connection, code: int, skim: Callable[[], tuple[int, bytes]], *, answers: int) -> None:
    """End the transaction; what goes wrong now must not hide why."""
    if code == 421:
        connection.close()
        return
    with contextlib.suppress(smtplib.SMTPException, OSError):
        last = [skim()[0] for _ in range(answers)][-1]
        if last == GO_ON:
            connection.close()
        else:
            connection.rset()
