"""Providers as the fault server plays them."""

from typing import Any

from tests.faults.http_server import Answer

METADATA = "6f1c-outbox"
HTML = "<html><body>Bad gateway</body></html>"
POSTMARK_OK = Answer(200, {"ErrorCode": 0, "Message": "OK", "MessageID": "pm-1", "To": "ann@example.com"})
MAILGUN_OK = Answer(200, {"id": "<mg-1@example.com>", "message": "Queued. Thank you."})

OPTIONS: dict[str, dict[str, Any]] = {
    "postmark": {"server_token": "t"},
    "mailgun": {"api_key": "k", "sender_domain": "example.com"},
    "mailjet": {"api_key": "k", "secret_key": "s"},
    "mailersend": {"api_token": "t"},
    "postal": {"api_key": "k"},
    "mandrill": {"api_key": "k"},
    "resend": {"api_key": "k"},
    "sparkpost": {"api_key": "k"},
    "mailtrap": {"api_token": "t"},
    "unisender_go": {"api_key": "k"},
    "scaleway": {"secret_key": "k", "project_id": "p"},
    "brevo": {"api_key": "k"},
}
