"""The app: wires signals to tasks and registers checks."""

from typing import Any

from django.apps import AppConfig, apps
from django.db import router
from django.db.models.signals import post_migrate, post_save


class MailOutboxConfig(AppConfig):
    """The mail outbox."""

    name = "mail_outbox"
    verbose_name = "Mail outbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Wire the wake to the commit, the log to the signals, and the rows that must be there to migrate."""
        from mail_outbox import checks, logs, signals
        from mail_outbox.models import Suppression
        from mail_outbox.outbox import suppressing

        checks.register()
        logs.connect()
        post_save.connect(suppressing.note_saved, sender=Suppression, dispatch_uid="mail_outbox.note_suppression")
        post_migrate.connect(install_wake, sender=self, dispatch_uid="mail_outbox.install_wake")
        if apps.is_installed("django_q"):
            from mail_outbox import tasks
            from mail_outbox.outbox import driving

            driving.use(tasks.DRIVER)
            signals.work_waiting.connect(tasks.wake_after_commit, dispatch_uid="mail_outbox.wake_after_commit")
            post_migrate.connect(tasks.install_sweep, sender=self, dispatch_uid="mail_outbox.install_sweep")


def install_wake(sender: AppConfig, *, using: str, **_: Any) -> None:
    """Write the row that coalesces wakes, where the outbox lives in this database."""
    from mail_outbox.drain import wakes
    from mail_outbox.models import Wake

    if router.allow_migrate_model(using, Wake):
        wakes.install(database=using)
