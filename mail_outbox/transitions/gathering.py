"""What follows the rows of one batch after another: kept until all are written, and then done in one order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, Self

from mail_outbox.core.envelope import Blob, Stream
from mail_outbox.core.envelope.streams import CHUNK
from mail_outbox.core.outcomes import SUPPRESSED
from mail_outbox.transitions.acting import cancel
from mail_outbox.transitions.attaching import attach

IN_MEMORY = 16_000_000
"""How many bytes of earlier batches stay in memory; more goes to a temporary file."""


@dataclass(frozen=True, slots=True)
class Kept(Stream):
    """Bytes that lie in the temporary file."""

    file: IO[bytes]
    start: int
    length: int

    @property
    def size(self) -> int:
        """Return how many bytes there are."""
        return self.length

    def chunks(self) -> Iterator[bytes]:
        """Read them in pieces."""
        for place in range(0, self.length, CHUNK):
            self.file.seek(self.start + place)
            yield self.file.read(min(CHUNK, self.length - place))


class Gathered:
    """What is left to do when the entries of one transaction are written.

    Two transactions that bring the same new bytes wait for each other, and would for ever, were they to bring them batch
    by batch, each in its own order. The last batch stays in memory, where its messages still are.
    """

    def __init__(self, database: str) -> None:
        self._database = database
        self._blobs_of: dict[int, list[str]] = {}
        self._blobs: dict[str, Blob] = {}
        self._latest: list[str] = []
        self._for_nobody: list[int] = []
        self._end = 0
        self._file: IO[bytes] = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed where the block ends

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, blobs_of: Mapping[int, Mapping[str, Blob]], for_nobody: Sequence[int]) -> None:
        """Remember what a batch of entries, by their keys, needs, and which of them have nobody to go to."""
        self._for_nobody += for_nobody
        while self._latest:
            name = self._latest.pop()
            self._blobs[name] = self._keep(self._blobs[name])
        for key, blobs in blobs_of.items():
            self._blobs_of[key] = list(blobs)
            for name in blobs.keys() - self._blobs.keys():
                self._blobs[name] = blobs[name]
                self._latest.append(name)

    def finish(self) -> None:
        """Do it all, in the caller's transaction; raises what `attach` raises."""
        blobs_of = {key: {name: self._blobs[name] for name in names} for key, names in self._blobs_of.items()}
        finish(blobs_of, self._for_nobody, database=self._database)

    def _keep(self, blob: Blob) -> Stream:
        if isinstance(blob, Stream):
            return blob
        self._file.seek(self._end)
        kept = Kept(self._file, self._end, len(blob))
        self._end += self._file.write(blob)
        return kept


def finish(blobs_of: Mapping[int, Mapping[str, Blob]], for_nobody: Sequence[int], *, database: str) -> None:
    """Store attachments and link entries to them, by their keys; then cancel those that have nobody to go to."""
    attach(blobs_of, database=database)
    # In this order: what is sensitive loses its content by it.
    cancel(for_nobody, reason=SUPPRESSED, database=database)
