"""Bytes that are read in pieces, so that nobody has them in memory whole who does not need them so."""

from abc import ABC, abstractmethod
from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from typing import TypeAlias

from mail_outbox.core.errors import InvalidMessage

CHUNK = 512 * 1024
"""How many bytes a piece has at the most."""


class Stream(ABC):
    """Bytes that lie somewhere else, a file for example; two that are equal stand for the same bytes."""

    __slots__ = ()

    @property
    @abstractmethod
    def size(self) -> int:
        """Return how many bytes there are, without reading them."""

    @abstractmethod
    def chunks(self) -> Iterator[bytes]:
        """Read the bytes from the beginning, in pieces of at most CHUNK."""


Blob: TypeAlias = bytes | Stream


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading a stream to its end has told: the SHA-256, and whether it is text in UTF-8."""

    digest: str
    is_text: bool


def read_through(stream: Stream) -> Reading:
    """Read the stream to its end, a piece at a time, and return what was learnt."""
    digest, decoder, is_text = sha256(), getincrementaldecoder("utf-8")(), True
    for chunk in stream.chunks():
        digest.update(chunk)
        is_text = is_text and _decodes(decoder, chunk)
    return Reading(digest.hexdigest(), is_text and _decodes(decoder, b"", final=True))


def _decodes(decoder: IncrementalDecoder, chunk: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


def size_of(blob: Blob) -> int:
    """Return how many bytes the blob has."""
    return blob.size if isinstance(blob, Stream) else len(blob)


def whole(blob: Blob) -> bytes:
    """Return all bytes of the blob."""
    if not isinstance(blob, Stream):
        return blob
    buffer = BytesIO()
    for chunk in blob.chunks():
        buffer.write(chunk)
    return buffer.getvalue()  # which hands out the buffer itself, where join() would hold the bytes twice


def chunks_of(blob: Blob, *, name: str) -> Iterator[bytes | memoryview]:
    """Yield the blob in pieces of at most CHUNK; raise InvalidMessage where a stream is not what its `name`, the SHA-256, says."""
    if not isinstance(blob, Stream):
        view = memoryview(blob)
        yield from (view[start : start + CHUNK] for start in range(0, len(view), CHUNK))
        return
    digest = sha256()
    for chunk in blob.chunks():
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != name:
        raise InvalidMessage(f"{blob} has changed while it was enqueued. Enqueue it again when nobody writes to it.")
