"""The forms that stand between a button and what it does."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from mail_outbox.conf import real_mailers
from mail_outbox.core.addresses import parse
from mail_outbox.core.errors import InvalidMessage

MOST_RECIPIENTS = 50
AT = "%Y-%m-%dT%H:%M"


class ConfirmForm(forms.Form):
    """A form that does nothing twice: its token goes with it, and it means no mail that came after it was shown."""

    token = forms.RegexField(r"\A[0-9a-f]{32}\Z", widget=forms.HiddenInput)
    newest = forms.IntegerField(widget=forms.HiddenInput, min_value=0)


def confirm_form(wanted: dict[str, forms.Field], data: Any = None, *, newest: int = 0) -> ConfirmForm:
    """Return the form with these fields: filled in by the user, or fresh, with a token of its own."""
    kind = type("ActForm", (ConfirmForm,), wanted)
    form: ConfirmForm = kind(data) if data is not None else kind(initial={"token": uuid4().hex, "newest": newest})
    return form


class AddressesField(forms.CharField):
    """Addresses, one on each line."""

    def clean(self, value: Any) -> Any:
        """Return the addresses as they were written; each must be exactly one."""
        lines = [line.strip() for line in str(super().clean(value)).splitlines() if line.strip()]
        if len(lines) > MOST_RECIPIENTS:
            raise ValidationError(gettext("At most %s addresses.") % MOST_RECIPIENTS)
        for line in lines:
            try:
                address = parse(line)
            except InvalidMessage as error:
                raise ValidationError(str(error)) from error
            if "@" not in address:
                raise ValidationError(gettext("'%s' has no @, so it is no address.") % line)
        return lines


def reason() -> forms.Field:
    """Return the field for a reason that may be left out."""
    return forms.CharField(
        label=_("Reason"), required=False, max_length=150, help_text=_("Others see it on the page of the mail.")
    )


def needed_reason() -> forms.Field:
    """Return the field for a reason."""
    return forms.CharField(label=_("Reason"), max_length=150, help_text=_("For the person who finds the mail."))


def pause_reason() -> forms.Field:
    """Return the field for why a mailer is paused, which may be left out."""
    return forms.CharField(
        label=_("Reason"), required=False, max_length=150, help_text=_("Others see it wherever mail waits for it.")
    )


def send_at() -> forms.Field:
    """Return the field for the new time."""
    return _moment(label=_("Send at"), required=True)


def new_expiry() -> forms.Field:
    """Return the field for a new expiry."""
    return _moment(label=_("New expiry"), required=False, help_text=_("Needed only by mail that is past its expiry."))


def other_recipients() -> forms.Field:
    """Return the field for other recipients."""
    return AddressesField(
        label=_("To"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 40}),
        help_text=_(
            "One address on each line, instead of all recipients. Empty: the same recipients, cc and bcc included."
        ),
    )


def other_mailer() -> forms.Field:
    """Return the field for another mailer, or the same."""
    return forms.ChoiceField(label=_("Mailer"), required=False, choices=[("", _("the same")), *_mailers()])


def new_mailer() -> forms.Field:
    """Return the field for the mailer."""
    return forms.ChoiceField(label=_("Mailer"), choices=_mailers())


def pause_length() -> forms.Field:
    """Return the field for how long to pause."""
    choices = [
        ("", _("until it is resumed")),
        ("30", _("30 minutes")),
        ("120", _("2 hours")),
        ("1440", _("1 day")),
    ]
    return forms.TypedChoiceField(
        label=_("For how long"),
        required=False,
        choices=choices,
        coerce=lambda minutes: timedelta(minutes=int(minutes)),
        empty_value=None,
    )


def _mailers() -> list[tuple[str, str]]:
    return [(alias, alias) for alias in real_mailers()]


def _moment(**keywords: Any) -> forms.Field:
    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format=AT)
    zone = gettext("Time zone: %s.") % timezone.get_current_timezone_name()
    help_text = f"{keywords.pop('help_text', '')} {zone}".strip()
    return forms.DateTimeField(widget=widget, input_formats=[AT, f"{AT}:%S"], help_text=help_text, **keywords)
