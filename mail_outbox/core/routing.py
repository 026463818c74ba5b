"""Routes: mailers in order of preference, or by weight; who sends, and who takes over."""

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import isfinite


@dataclass(frozen=True, slots=True)
class Route:
    """Mailers that stand in for each other: by `weights`, one for each mailer, or in their order where there are none."""

    name: str
    mailers: tuple[str, ...]
    weights: tuple[float, ...] = ()

    def choose(self, among: Collection[str], *, luck: float) -> str | None:
        """Return which of these mailers sends, or None where none of them belongs to the route.

        The first in order, or the one in whose share `luck` (0…1) falls.
        """
        left = [place for place, mailer in enumerate(self.mailers) if mailer in among]
        if not left:
            return None
        if not self.weights:
            return self.mailers[left[0]]
        shares = list(accumulate(self.weights[place] for place in left))
        chosen = bisect_right(shares, luck * shares[-1])
        return self.mailers[left[min(chosen, len(left) - 1)]]

    def untried(self, tried: Collection[str], *, luck: float) -> str | None:
        """Return who is tried next, or None where all of them have been."""
        return self.choose([mailer for mailer in self.mailers if mailer not in tried], luck=luck)

    def neighbour(self, mailer: str) -> str:
        """Return the mailer after this one, the first after the last."""
        place = self.mailers.index(mailer) + 1 if mailer in self.mailers else 0
        return self.mailers[place % len(self.mailers)]

    def limited_to(self, known: Collection[str]) -> "Route":
        """Return the route without the mailers that are not known."""
        places = [place for place, mailer in enumerate(self.mailers) if mailer in known]
        return Route(
            self.name,
            tuple(self.mailers[place] for place in places),
            tuple(self.weights[place] for place in places) if self.weights else (),
        )


def read_route(name: str, value: object) -> Route:
    """Return the route that a setting describes; raises ValueError saying what it cannot be."""
    if isinstance(value, Mapping):
        weights = tuple(value.values())
        if not all(_is_weight(weight) for weight in weights):
            raise ValueError("has a weight that is no number above zero")
        return Route(name, _mailers(tuple(value)), weights)
    if isinstance(value, list | tuple):
        return Route(name, _mailers(value))
    raise ValueError("is neither a list of mailers, nor a dict of weights, nor a callable")


def _mailers(aliases: Sequence[object]) -> tuple[str, ...]:
    named = tuple(alias for alias in aliases if isinstance(alias, str) and alias)
    if not named:
        raise ValueError("names no mailer")
    if len(named) < len(aliases):
        raise ValueError("names a mailer by something that is no text")
    if len(set(named)) < len(named):
        raise ValueError("names a mailer twice")
    return named


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and isfinite(value)
