"""One person's data out of the outbox, for whoever asks to be forgotten."""

from collections.abc import Iterator
from functools import reduce

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.core.pseudonyms import Person, pseudonym
from mail_outbox.drain.instances import find_stranger
from mail_outbox.outbox.delivering import refuse_in_transaction
from mail_outbox.outbox.options import check_address, check_database
from mail_outbox.outbox.storing import delete_files
from mail_outbox.outbox.twins import has_twin
from mail_outbox.transitions import EraseResult


@has_twin
def erase(address: str, *, dry_run: bool = False, database: str | None = None) -> EraseResult:
    """Erase the person behind the address wherever the outbox has them, and return the counts, and what is left.

    Mail to them that was not sent is cancelled; where others wait for the same message, it goes to those alone, and loses
    its content after that. Whatever else has the address loses its content, too, once it is over; suppressions go on under a
    keyed pseudonym. What is being sent has to be erased once more. Reads all contents and attachments, files in a storage too;
    works in small transactions of its own, beside the workers. Raises InvalidOption for what is no address, and InTransaction.
    """
    return reduce(EraseResult.plus, erase_in_steps(address, dry_run=dry_run, database=database), EraseResult())


def erase_in_steps(address: str, *, dry_run: bool = False, database: str | None = None) -> Iterator[EraseResult]:
    """Do the same step by step, and yield the counts of each, many of them nothing but a sign of life."""
    plain = check_address(address)
    conf = settings.get_conf()
    databases = conf.databases if database is None else (check_database(database, conf),)
    if not dry_run:
        refuse_in_transaction("erase", databases=databases)
    person = Person(plain, pseudonym(plain, settings.erasure_keys()[0]))
    for alias in databases:
        yield from _erase(person, dry_run=dry_run, database=alias)
        if not dry_run:
            # The files of a copy may be those of the original.
            if find_stranger(database=alias) is None:
                delete_files(database=alias)
            yield EraseResult(files=transitions.count_leaving_files(database=alias))


def _erase(person: Person, *, dry_run: bool, database: str) -> Iterator[EraseResult]:
    # Before anything is removed, so that a dry run finds the same.
    yield EraseResult(texts=transitions.mask_texts(person, dry_run=dry_run, database=database))
    own, after = set[int](), 0
    while keys := transitions.entries_of(person, after=after, database=database):
        yield transitions.erase_entries(keys, person, dry_run=dry_run, database=database)
        own.update(keys)
        after = keys[-1]
    attachments, name = set[str](), ""
    while names := transitions.attachments_after(name, database=database):
        found, unreadable = transitions.attachments_with(person, names, database=database)
        attachments |= found
        yield EraseResult(unsearched=unreadable)
        name = names[-1]
    place: int | None = 0
    while place is not None:
        mentions, unreadable, place = transitions.mentions_of(person, attachments, after=place, database=database)
        # What was addressed to the person is counted, whatever is left of it.
        others = [key for key in mentions if key not in own]
        step = transitions.erase_mentions(others, dry_run=dry_run, database=database)
        yield step.plus(EraseResult(unsearched=unreadable))
    yield EraseResult(suppressions=transitions.erase_suppressions(person, dry_run=dry_run, database=database))
