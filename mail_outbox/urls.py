"""The pages outside the admin: the mailbox for developers."""

from django.urls import path

from mail_outbox import mailbox

app_name = "mail_outbox"
urlpatterns = [
    path("", mailbox.mailbox, name="mailbox"),
    path("messages.json", mailbox.messages_json, name="messages_json"),
    path("<int:pk>/", mailbox.mail, name="mail"),
    path("<int:pk>.json", mailbox.message_json, name="message_json"),
    path("<int:pk>/html/", mailbox.html, name="html"),
    path("<int:pk>/attachments/<int:number>/", mailbox.attachment, name="attachment"),
]
