"""The task of django-tasks-db."""

from django.tasks import task

from benchmarks.contenders.sending import send


@task()
def send_task(number: int, subject: str, text: str, html: str, to: str) -> None:
    """Send one mail."""
    send(number, subject, text, html, to)
