"""Contents at rest: sealed with the project's own keys where it has given any, and opened again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from mail_outbox.conf import get_conf
from mail_outbox.core.errors import UndecryptableContent

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

PLAIN = ""
"""Stands for the key of what is not sealed."""


@dataclass(frozen=True, slots=True)
class Vault:
    """The keys by their ids; the first one seals, all of them open. Without any nothing is sealed."""

    fernets: Mapping[str, "Fernet"]

    @property
    def key_id(self) -> str:
        """Return the id of the key that seals, or PLAIN."""
        return next(iter(self.fernets), PLAIN)

    @property
    def readable(self) -> tuple[str, ...]:
        """List the ids of all that can be opened."""
        return (PLAIN, *self.fernets)

    def seal(self, data: bytes | memoryview) -> bytes | memoryview:
        """Return what is to be stored under `key_id`."""
        return self.fernets[self.key_id].encrypt(bytes(data)) if self.fernets else data

    def open(self, data: bytes, key_id: str) -> bytes:
        """Return what was sealed; raises UndecryptableContent where the key is lost, or the data is not what it sealed."""
        if key_id == PLAIN:
            return data
        fernet = self.fernets.get(key_id)
        if fernet is None:
            raise UndecryptableContent(
                f"key {key_id} is not in MAIL_OUTBOX['ENCRYPTION_KEYS']. Put it back, then retry the entry."
            )
        from cryptography.fernet import InvalidToken

        try:
            return fernet.decrypt(data)
        except InvalidToken as error:
            raise UndecryptableContent(f"what key {key_id} has sealed is damaged. Restore it, or send anew.") from error

    def seal_json(self, value: Any) -> Any:
        """Return what is to be stored under `key_id` in a JSON column."""
        if not self.fernets:
            return value
        return {"sealed": bytes(self.seal(json.dumps(value, separators=(",", ":")).encode())).decode()}

    def open_json(self, stored: Any, key_id: str) -> Any:
        """Return the value that was sealed; raises UndecryptableContent."""
        if key_id == PLAIN:
            return stored
        sealed = stored.get("sealed") if isinstance(stored, dict) else None
        if not isinstance(sealed, str):
            raise UndecryptableContent(f"what key {key_id} has sealed is damaged. Restore it, or send anew.")
        return json.loads(self.open(sealed.encode(), key_id))


def get_vault() -> Vault:
    """Return the vault with the keys of the settings as they stand now.

    Raises ImproperlyConfigured where there should be keys and are none, or where the extra `encryption` is missing.
    """
    given = get_conf().encryption_keys
    keys = given() if callable(given) else given
    return Vault({}) if keys is None else _vault(tuple(keys))


def reading_vault() -> Vault:
    """Return the same for who only reads; raises UndecryptableContent where the keys cannot be had."""
    try:
        return get_vault()
    except ImproperlyConfigured as error:
        raise UndecryptableContent(str(error)) from error
    except Exception as error:
        # Whatever a callable raises, as where the service that keeps the keys is away.
        raise UndecryptableContent(f"ENCRYPTION_KEYS cannot be had ({type(error).__name__}).") from error


def faults_of(keys: Sequence[Any]) -> Iterator[str]:
    """Yield what is wrong with the keys, without telling them."""
    if not keys:
        yield "there is no key, and nothing may be stored unsealed"
    for number, key in enumerate(keys, start=1):
        try:
            _fernet(key)
        except ImportError:
            yield "the package cryptography is missing: pip install 'mail-outbox[encryption]'"
            return
        except (ValueError, TypeError):
            yield f"key number {number} is none: make one with cryptography.fernet.Fernet.generate_key()"


def id_of(key: str) -> str:
    """Return what stands on a row for the key that has sealed it."""
    return sha256(key.encode()).hexdigest()[:12]


# Making them out of text takes longer than opening a small content.
@lru_cache(maxsize=8)
def _vault(keys: tuple[str, ...]) -> Vault:
    for fault in faults_of(keys):
        raise ImproperlyConfigured(f"MAIL_OUTBOX['ENCRYPTION_KEYS']: {fault}.")
    return Vault({id_of(key): _fernet(key) for key in keys})


def _fernet(key: str) -> "Fernet":
    from cryptography.fernet import Fernet

    if not isinstance(key, str):
        raise TypeError("a key is a text")
    return Fernet(key)
