"""What another package defines, for who must not load that package only to ask."""

import sys
from typing import Any


def loaded(module: str, name: str, otherwise: object = ()) -> Any:
    """Return what the module calls so; where nobody has imported it, `otherwise`, of which nothing is an instance."""
    return getattr(sys.modules.get(module), name, otherwise)
