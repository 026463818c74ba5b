"""Contents and attachments are sealed at rest; a lost key holds its mail, and hides or breaks nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, storages

from mail_outbox import outbox, transitions
from mail_outbox.core.envelope.streams import CHUNK
from mail_outbox.models import Attachment, AttachmentChunk, EntryContent, OutboxEntry, StoredFile
from mail_outbox.outbox.storing import delete_files, store_attachments
from mail_outbox.vault import get_vault, id_of
from tests.support import a_message

pytestmark = pytest.mark.django_db(transaction=True)

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
SMALL = ("small.bin", b"tiny secret", "application/octet-stream")
LARGE = ("large.bin", b"huge secret\n\x00\xff" * (CHUNK // 8), "application/octet-stream")

Keys = Callable[..., None]


@pytest.fixture
def keys(provider, settings) -> Keys:
    """Let these be the keys from now on."""

    def use(*given: str) -> None:
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": list(given) or None}

    return use


@pytest.fixture
def shelf(provider, settings, tmp_path: Path) -> FileSystemStorage:
    """Move large attachments into a folder."""
    storage = FileSystemStorage(tmp_path)
    settings.STORAGES = {**settings.STORAGES, "shelf": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ATTACHMENT_STORAGE": "shelf"}
    storages._storages["shelf"] = storage
    return storage


def enqueue(**options) -> OutboxEntry:
    message = a_message("Subject", body="Very secret", attachments=[SMALL, LARGE])
    return outbox.enqueue(message, metadata={"order": "private"}, **options)


def stored() -> bytes:
    """Return all that the database has of contents and attachments."""
    contents = str(list(EntryContent.objects.values_list("payload", "metadata"))).encode()
    return contents + b"".join(map(bytes, AttachmentChunk.objects.values_list("data", flat=True)))


def is_plain(data: bytes) -> bool:
    words = (b"ery secret", b"private", b"tiny secret", b"huge secret", b"example.com")
    return any(word in data for word in words)


class TestSealing:
    def test_nothing_of_a_content_can_be_read_in_the_database(self, keys):
        keys(NEW)

        enqueue()

        assert not is_plain(stored())
        assert {content.key_id for content in EntryContent.objects.all()} == {id_of(NEW)}
        assert {attachment.key_id for attachment in Attachment.objects.all()} == {id_of(NEW)}

    def test_what_was_sealed_is_delivered_as_it_was(self, keys, provider):
        keys(NEW)
        entry = enqueue()

        outbox.drain()

        entry.refresh_from_db()
        [message] = provider.accepted
        assert (entry.state, message.body) == ("sent", "Very secret")
        assert [tuple(attachment) for attachment in message.attachments] == [SMALL, LARGE]

    def test_the_entry_gives_back_what_was_given_and_a_resend_has_it_all(self, keys, provider):
        keys(NEW)
        entry = enqueue()
        outbox.drain()

        again = outbox.resend(entry)

        assert again.message().body == "Very secret"
        assert again.content.opened()[1] == {"order": "private"}

    def test_without_keys_everything_is_stored_as_it_is(self):
        enqueue()

        assert is_plain(stored())
        assert EntryContent.objects.get().key_id == ""

    def test_what_was_stored_before_there_were_keys_is_delivered(self, keys, provider):
        enqueue()
        keys(NEW)

        outbox.drain()

        assert len(provider.accepted) == 1

    def test_an_attachment_of_before_is_shared_as_it_is(self, keys, provider):
        enqueue()
        keys(NEW)
        enqueue()

        outbox.drain()

        assert (Attachment.objects.count(), len(provider.accepted)) == (2, 2)

    def test_the_keys_may_come_from_a_function(self, provider, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": lambda: [NEW]}
        enqueue()

        outbox.drain()

        assert len(provider.accepted) == 1

    @pytest.mark.parametrize("bad", [[], ["no key"]], ids=["none", "bad"])
    def test_keys_that_are_none_let_nothing_in_unsealed(self, provider, settings, bad):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": bad}

        with pytest.raises(ImproperlyConfigured, match="ENCRYPTION_KEYS"):
            enqueue()

        assert not OutboxEntry.objects.exists()

    def test_idempotency_looks_at_the_plain_content(self, keys):
        keys(OLD)
        entry = enqueue(idempotency_key="a")
        keys(NEW, OLD)

        assert enqueue(idempotency_key="a", on_conflict="raise") == entry


class TestLostKey:
    def test_it_holds_the_entry_and_no_other(self, keys, provider):
        keys(OLD)
        lost = enqueue()
        keys(NEW)
        outbox.enqueue(a_message("fine"))

        outbox.drain()

        lost.refresh_from_db()
        assert lost.state == "held"
        assert lost.state_reason.startswith(f"undecryptable: key {id_of(OLD)} is not in MAIL_OUTBOX['ENCRYPTION_KEYS']")
        assert provider.subjects == ["fine"]

    def test_reading_it_says_so(self, keys):
        keys(OLD)
        entry = enqueue()
        keys(NEW)

        with pytest.raises(outbox.UnreadableEnvelope, match="is not in MAIL_OUTBOX"):
            entry.message()

    def test_the_lists_of_the_admin_are_still_there(self, keys, admin_client):
        keys(OLD)
        entry = enqueue()
        keys()

        for url in ("/admin/mail_outbox/outboxentry/", f"/admin/mail_outbox/outboxentry/{entry.pk}/change/"):
            assert admin_client.get(url).status_code == 200

    @pytest.mark.parametrize("without", [(), (NEW,)], ids=["no keys", "another"])
    def test_with_the_key_back_it_is_delivered(self, keys, provider, without):
        keys(OLD)
        entry = enqueue()
        keys(*without)
        outbox.drain()

        keys(NEW, OLD)
        assert outbox.retry(entry) == 1
        outbox.drain()

        assert len(provider.accepted) == 1

    def test_only_an_attachment_may_be_lost(self, keys, provider):
        keys(OLD)
        enqueue()
        keys(NEW)
        entry = enqueue()

        outbox.drain()

        entry.refresh_from_db()
        assert (entry.state, entry.state_reason[:13]) == ("held", "undecryptable")

    def test_a_service_for_keys_that_is_away_holds_what_needs_it(self, keys, settings, provider):
        keys(OLD)
        entry = enqueue()

        def fail() -> list[str]:
            raise ConnectionError

        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": fail}
        outbox.drain()

        entry.refresh_from_db()
        assert entry.state_reason == "undecryptable: ENCRYPTION_KEYS cannot be had (ConnectionError)."

    @pytest.mark.parametrize("payload", [{"sealed": "gAAAA"}, {"sealed": 1}, {}, [1]], ids=str)
    def test_a_damaged_row_holds_its_entry(self, keys, provider, payload):
        keys(OLD)
        entry = enqueue()
        EntryContent.objects.update(payload=payload)

        outbox.drain()

        entry.refresh_from_db()
        assert (entry.state, entry.state_reason[:13]) == ("held", "undecryptable")


class TestRotating:
    def test_everything_is_under_the_first_key_afterwards(self, keys, provider):
        enqueue()
        keys(OLD)
        outbox.enqueue(a_message())
        keys(NEW, OLD)

        result = outbox.rotate_keys()

        assert (result.contents, result.attachments, result.undecryptable) == (2, 2, 0)
        keys(NEW)
        assert not is_plain(stored())
        outbox.drain()
        [message] = [message for message in provider.accepted if message.subject == "Subject"]
        assert [tuple(attachment) for attachment in message.attachments] == [SMALL, LARGE]

    def test_there_is_nothing_left_for_the_next(self, keys):
        enqueue()
        keys(NEW)
        outbox.rotate_keys()

        assert outbox.rotate_keys() == outbox.RotateResult()

    def test_it_goes_in_batches_and_on_from_where_it_was_interrupted(self, keys):
        entries = [outbox.enqueue(a_message()) for _ in range(5)]
        keys(NEW)

        step, after = transitions.rotate_contents(get_vault(), after=0, limit=2, database="default")
        assert (step.contents, after) == (2, entries[1].pk)

        assert outbox.rotate_keys(batch_size=2).contents == 3

    def test_what_is_lost_stays_as_it_is(self, keys):
        keys(OLD)
        enqueue()
        keys(NEW)
        outbox.enqueue(a_message())
        before = stored()

        result = outbox.rotate_keys()

        assert result == outbox.RotateResult(undecryptable=3)
        assert stored() == before

    def test_without_keys_there_is_nothing_to_rotate_to(self):
        with pytest.raises(outbox.InvalidOption, match="ENCRYPTION_KEYS"):
            outbox.rotate_keys()


class TestStorage:
    def test_a_file_is_sealed_and_delivered(self, keys, shelf, provider):
        keys(NEW)
        enqueue()

        assert store_attachments(database="default") == 1

        path = Path(shelf.path(name_of_large()))
        assert not is_plain(path.read_bytes())
        outbox.drain()
        assert [tuple(attachment) for attachment in provider.accepted[0].attachments] == [SMALL, LARGE]

    def test_a_file_is_sealed_anew_by_way_of_the_database(self, keys, shelf, provider):
        keys(OLD)
        enqueue()
        store_attachments(database="default")
        old_file = name_of_large()
        keys(NEW, OLD)

        assert outbox.rotate_keys().attachments == 2
        assert store_attachments(database="default") == 1
        delete_files(database="default")

        keys(NEW)
        assert not shelf.exists(old_file)
        assert shelf.exists(name_of_large())
        assert not StoredFile.objects.exists()
        outbox.drain()
        assert [tuple(attachment) for attachment in provider.accepted[0].attachments] == [SMALL, LARGE]

    def test_an_attachment_whose_key_is_lost_stays_and_holds_up_no_other(self, keys, shelf):
        keys(OLD)
        enqueue()
        keys(NEW)
        outbox.enqueue(a_message(attachments=[("other.bin", LARGE[1] + b"!", LARGE[2])]))

        assert store_attachments(database="default") == 1

    def test_one_that_is_sealed_anew_on_its_way_stays_in_the_database(self, keys, shelf):
        keys(OLD)
        enqueue()
        large = Attachment.objects.get(size=len(LARGE[1]))
        file = transitions.announce_file(large.digest, storage="shelf", name="x", database="default")
        keys(NEW, OLD)
        outbox.rotate_keys()

        assert not transitions.note_stored(large.digest, id_of(OLD), file, database="default")

    def test_a_file_whose_key_is_lost_holds_the_entry(self, keys, shelf, provider):
        keys(OLD)
        entry = enqueue()
        store_attachments(database="default")
        seal_under(NEW, entry, keys)
        keys(NEW)

        outbox.drain()

        entry.refresh_from_db()
        assert (entry.state, entry.state_reason[:13]) == ("held", "undecryptable")


def name_of_large() -> str:
    """Return the name of the file that the large attachment is."""
    return Attachment.objects.get(size=len(LARGE[1])).storage_name


def seal_under(key: str, entry: OutboxEntry, keys: Keys) -> None:
    """Seal the entry's content, and not its attachments, under another key."""
    content = EntryContent.objects.get(pk=entry.pk)
    payload, metadata = content.opened()
    keys(key)
    content.close(payload, metadata, get_vault())
    content.save()


def test_a_key_is_named_without_being_told():
    assert id_of(NEW) != id_of(OLD)
    assert id_of(NEW) not in NEW
