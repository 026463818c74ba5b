"""What the guard of a staging site and the interceptors do to mail on its way, in plain sentences."""

from collections.abc import Iterable, Sequence

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mail_outbox.conf import Conf
from mail_outbox.delivery.guard import Guard, guard_of

MOST_NAMED = 3
DIVERSIONS = {
    # what happens, whether the mail is over already
    ("redirected", False): gettext_lazy(
        "It will be redirected to %(instead)s instead of %(refused)s (MAIL_OUTBOX['REDIRECT_TO'])."
    ),
    ("redirected", True): gettext_lazy(
        "Sent again, it would go to %(instead)s instead of %(refused)s (MAIL_OUTBOX['REDIRECT_TO'])."
    ),
    ("some", False): gettext_lazy("It will not go to %(refused)s (MAIL_OUTBOX['ALLOW_TO'])."),
    ("some", True): gettext_lazy("Sent again, it would not go to %(refused)s (MAIL_OUTBOX['ALLOW_TO'])."),
    ("nobody", False): gettext_lazy("It will go to nobody, and be cancelled (MAIL_OUTBOX['ALLOW_TO'])."),
    ("nobody", True): gettext_lazy("Sent again, it would go to nobody, and be cancelled (MAIL_OUTBOX['ALLOW_TO'])."),
}


def tell_rule(conf: Conf) -> str:
    """Return whom this site writes to, where that is not whoever a mail is for; else nothing."""
    try:
        guard = guard_of(conf)
    except ImproperlyConfigured as error:
        return _no_rule(error)
    if guard is None:
        return ""
    allowed = _listed(guard.allow_to)
    if not guard.redirect_to:
        if not allowed:
            return _("This site sends no mail: MAIL_OUTBOX['ALLOW_TO'] is empty.")
        return _("This site sends mail to nobody but %s (MAIL_OUTBOX['ALLOW_TO']).") % allowed
    names = {"instead": _listed(guard.redirect_to), "allowed": allowed}
    if allowed:
        rule = _(
            "This site redirects mail: it goes to %(instead)s (MAIL_OUTBOX['REDIRECT_TO']), except what is for %(allowed)s."
        )
    else:
        rule = _(
            "This site redirects mail: it goes to %(instead)s (MAIL_OUTBOX['REDIRECT_TO']), not to its recipients."
        )
    return rule % names


def tell_guard(addresses: Iterable[str], conf: Conf, *, is_over: bool) -> list[str]:
    """Return what will happen to one mail on its way, or would if it were sent again."""
    try:
        guard = guard_of(conf)
    except ImproperlyConfigured as error:
        return [_no_rule(error)]
    sentences = [] if guard is None else _diversion(list(dict.fromkeys(addresses)), guard, is_over=is_over)
    if conf.interceptors:
        names = [given if isinstance(given, str) else getattr(given, "__qualname__", "") for given in conf.interceptors]
        sentences.append(_("Before each attempt these may change or stop it: %s.") % ", ".join(filter(None, names)))
    return sentences


def _diversion(addresses: Sequence[str], guard: Guard, *, is_over: bool) -> list[str]:
    refused = [address for address in addresses if not guard.allows(address)]
    if not refused:
        return []
    names = {"instead": _listed(guard.redirect_to), "refused": _listed(refused)}
    what = "redirected" if guard.redirect_to else "some" if len(refused) < len(addresses) else "nobody"
    return [DIVERSIONS[what, is_over] % names]


def _no_rule(error: Exception) -> str:
    return _("This site sends nothing: %s") % error


def _listed(names: Sequence[str]) -> str:
    """Return the first few, and how many more there are."""
    shown, more = names[:MOST_NAMED], len(names) - MOST_NAMED
    if more > 0:
        return _("%(names)s and %(count)s more") % {"names": ", ".join(shown), "count": more}
    if len(shown) < 2:
        return "".join(shown)
    return _("%(names)s and %(last)s") % {"names": ", ".join(shown[:-1]), "last": shown[-1]}
