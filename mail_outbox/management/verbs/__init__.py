"""The verbs of `manage.py outbox`: one module each, with a `VERB` in it, found by itself."""

from importlib import import_module
from pkgutil import iter_modules

from mail_outbox.management.verb import Verb


def all_verbs() -> list[Verb]:
    """List the verbs by name."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return sorted((module.VERB for module in modules), key=lambda verb: verb.name)
