"""A way into the admin: the user `demo`, with a password that is new at each start."""

import secrets

from django.contrib.auth import get_user_model

USERNAME = "demo"


def renew_login() -> str:
    """Create the superuser where it is missing, and return its new password; the one before is void."""
    password = secrets.token_urlsafe(9)
    user, _ = get_user_model().objects.get_or_create(username=USERNAME)
    user.is_staff = user.is_superuser = user.is_active = True
    user.set_password(password)
    user.save()
    return password
