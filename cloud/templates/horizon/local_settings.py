# SPDX-License-Identifier: Apache-2.0
"""Horizon's settings; Horizon's own local/local_settings.py is a link to this."""

from horizon.utils import secret_key

DEBUG = False
WEBROOT = "/"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

SECRET_KEY = secret_key.generate_or_read_from_file("$data/horizon/secret_key")
# Sessions contain tokens. In files they outlive a restart, without a memcached.
SESSION_ENGINE = "django.contrib.sessions.backends.file"
SESSION_FILE_PATH = "$data/horizon/sessions"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

OPENSTACK_KEYSTONE_URL = "$auth_url"
OPENSTACK_KEYSTONE_DEFAULT_ROLE = "member"

# Servers have no other consoles. A server's page shows the console in a frame.
CONSOLE_TYPE = "SERIAL"
X_FRAME_OPTIONS = "SAMEORIGIN"

# Servers have no other boot sources: a container cannot boot from a volume.
LAUNCH_INSTANCE_DEFAULTS = {
    "create_volume": False,
    "hide_create_volume": True,
    "disable_volume": True,
    "disable_volume_snapshot": True,
}

# Users choose no theme: compressing a second one takes as long as the first.
AVAILABLE_THEMES = [("default", "Default", "themes/default")]
# `./quickstart up` collects and compresses the static files.
COMPRESS_OFFLINE = True
STATIC_ROOT = "$data/horizon/static"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"}
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
