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
    "sendgrid": {"api_key": "k"},
}

NO_BODY = {"Content-Type": "text/html", "X-Message-Id": "x-1"}
OK: dict[str, Answer] = {
    "postmark": POSTMARK_OK,
    "mailgun": MAILGUN_OK,
    "mailjet": Answer(
        200,
        {"Messages": [{"Status": "success", "To": [{"Email": "ann@example.com", "MessageID": 1, "MessageUUID": "u"}]}]},
    ),
    "mailersend": Answer(202, "", NO_BODY),
    "postal": Answer(200, {"status": "success", "data": {"messages": {"ann@example.com": {"id": 1, "token": "t"}}}}),
    "mandrill": Answer(200, [{"email": "ann@example.com", "status": "sent", "_id": "m-1", "reject_reason": None}]),
    "resend": Answer(200, {"id": "r-1"}),
    "sparkpost": Answer(
        200, {"results": {"total_accepted_recipients": 1, "total_rejected_recipients": 0, "id": "s-1"}}
    ),
    "mailtrap": Answer(200, {"success": True, "message_ids": ["t-1"]}),
    "unisender_go": Answer(200, {"status": "success", "job_id": "j-1", "emails": ["ann@example.com"]}),
    "scaleway": Answer(200, {"emails": [{"mail_rcpt": "ann@example.com", "id": "w-1", "status": "sending"}]}),
    "brevo": Answer(201, {"messageId": "<b-1@example.com>"}),
    "sendgrid": Answer(202, "", NO_BODY),
}
"""What each provider answers when it takes a message to ann@example.com."""
