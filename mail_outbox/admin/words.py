"""The words that stand in rows and are shown in the reader's language, for those who translate to find."""

from django.utils.translation import gettext_noop as _

STATES = (
    _("scheduled"),
    _("queued"),
    _("sending"),
    _("sent"),
    _("failed"),
    _("held"),
    _("expired"),
    _("cancelled"),
)
OUTCOMES = (
    _("partial"),
    _("transient"),
    _("throttled"),
    _("permanent"),
    _("mailer"),
    _("ambiguous"),
)
RECIPIENTS = (
    _("open"),
    _("accepted"),
    _("refused"),
    _("delivered"),
    _("bounced"),
    _("complained"),
    _("suppressed"),
    _("to"),
    _("cc"),
    _("bcc"),
)
TABS = (_("text"), _("headers"), _("source"), _("attachments"))
ACTIVITIES = (_("draining"), _("paused"))
REASONS = (
    _("no longer there"),
    _("without readable content"),
    _("copied by this form already"),
    _("sensitive, which nobody but their own recipients may get"),
    _("past their expiry, and no new one was given"),
    _("past their expiry by then"),
)
