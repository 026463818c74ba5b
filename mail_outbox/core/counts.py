"""What a piece of work came to, in numbers that can be added up."""

from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Numbers by name; what derives from it says which."""

    def plus(self, other: Self) -> Self:
        """Return the sum of both."""
        return type(self)(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as a plain dict, for JSON."""
        return asdict(self)
