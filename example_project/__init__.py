"""A small shop that sends its mail through mail_outbox; `manage.py demo` shows it at work."""
