"""Settings of the measured processes: whatever the parent hands over as JSON in the environment."""

import json
import os

from benchmarks.settings_name import HANDED_OVER

SECRET_KEY = "for benchmarks only"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR", "handlers": []}}

globals().update(json.loads(os.environ[HANDED_OVER]))
