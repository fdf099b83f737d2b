"""The only reader of the environment; `docs/settings.md` lists every variable."""

import os
import secrets
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _
from environs import FileAwareEnv, validate

from jobs import redis

BASE_DIR = Path(__file__).resolve().parent.parent

env = FileAwareEnv(eager=False, strip_whitespace=True)
env.read_env(BASE_DIR / ".env", recurse=False)


def _own_secret_key() -> str:
    """A key made once for this checkout: good for one machine; `check` warns in production."""
    path = VAR_DIR / "secret_key"
    if not path.exists():
        path.write_text(secrets.token_urlsafe(64))
        path.chmod(0o600)
    return path.read_text()


# The project
VAR_DIR = Path(env.str("VAR_DIR", str(BASE_DIR / "var")))
VAR_DIR.mkdir(parents=True, exist_ok=True)
DEBUG: bool = env.bool("DEBUG", False)
SECRET_KEY: str = env.str("SECRET_KEY", "") or _own_secret_key()
SECRET_KEY_IS_OWN: bool = not env.str("SECRET_KEY", "")
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [])
NODE_NAME: str = env.str("NODE_NAME", socket.gethostname())
TIME_ZONE: str = env.str("TIME_ZONE", "UTC")
LANGUAGE_CODE: str = env.str("LANGUAGE_CODE", "en")
LOG_LEVEL: str = env.str(
    "LOG_LEVEL", "INFO", validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"])
)
LOG_FORMAT: str = env.str("LOG_FORMAT", "text", validate=validate.OneOf(["text", "json"]))
TRACING: bool = bool(env.str("OTEL_EXPORTER_OTLP_ENDPOINT", ""))
OTEL_SERVICE_NAME: str = env.str("OTEL_SERVICE_NAME", "broadcast")

# Broadcasts and the directory of people
BROADCAST_CONTENT_MAX_BYTES: int = env.int("BROADCAST_CONTENT_MAX_BYTES", 65_536)
BROADCAST_MAX_ATTEMPTS: int = env.int("BROADCAST_MAX_ATTEMPTS", 5)
SERIES_GRACE_MINUTES: int = env.int("SERIES_GRACE_MINUTES", 60, validate=validate.Range(min=1))
RULE_RETENTION_DAYS: int = env.int("RULE_RETENTION_DAYS", 30)
BROADCAST_APPROVAL_ABOVE: int = env.int("BROADCAST_APPROVAL_ABOVE", -1)
BROADCAST_APPROVAL_FOR: list[str] = env.list(
    "BROADCAST_APPROVAL_FOR", [], validate=validate.ContainsOnly(["ALL", "URGENT"])
)
DIRECTORY_BACKEND: str = env.str("DIRECTORY_BACKEND", "broadcasts.directory.ModelDirectory")
DIRECTORY_URL: str = env.str("DIRECTORY_URL", "")
DIRECTORY_TOKEN: str = env.str("DIRECTORY_TOKEN", "")
DIRECTORY_TIMEOUT: float = env.float("DIRECTORY_TIMEOUT", 5.0)

# E-mail
EMAIL: dict[str, Any] = env.dj_email_url("EMAIL_URL", "console:" if DEBUG else "smtp://localhost")
EMAIL_TIMEOUT: int = env.int("EMAIL_TIMEOUT", 10)
DEFAULT_FROM_EMAIL: str = env.str("DEFAULT_FROM_EMAIL", "broadcast@localhost")
SITE_URL: str = env.str("SITE_URL", "http://localhost:8000")

# Outbox and event log
KAFKA_BOOTSTRAP_SERVERS: str = env.str("KAFKA_BOOTSTRAP_SERVERS", "")
KAFKA_SECURITY_PROTOCOL: str = env.str(
    "KAFKA_SECURITY_PROTOCOL",
    "PLAINTEXT",
    validate=validate.OneOf(["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]),
)
KAFKA_SASL_MECHANISM: str = env.str("KAFKA_SASL_MECHANISM", "")
KAFKA_USERNAME: str = env.str("KAFKA_USERNAME", "")
KAFKA_PASSWORD: str = env.str("KAFKA_PASSWORD", "")
KAFKA_CA_LOCATION: str = env.str("KAFKA_CA_LOCATION", "")
KAFKA_CERTIFICATE_LOCATION: str = env.str("KAFKA_CERTIFICATE_LOCATION", "")
KAFKA_KEY_LOCATION: str = env.str("KAFKA_KEY_LOCATION", "")
KAFKA_TOPIC_PREFIX: str = env.str("KAFKA_TOPIC_PREFIX", "")
KAFKA_REPLICATION_FACTOR: int = env.int("KAFKA_REPLICATION_FACTOR", -1)
EVENT_LOG_BACKEND: str = env.str(
    "EVENT_LOG_BACKEND",
    "outbox.kafka.KafkaLog" if KAFKA_BOOTSTRAP_SERVERS else "outbox.logs.DatabaseLog",
)
EVENT_SOURCE: str = env.str("EVENT_SOURCE", "/broadcast")
EVENT_MAX_BYTES: int = env.int("EVENT_MAX_BYTES", 900_000)
EVENT_MAX_ATTEMPTS: int = env.int("EVENT_MAX_ATTEMPTS", 5)
EVENT_RETENTION_DAYS: int = env.int("EVENT_RETENTION_DAYS", 7)
OUTBOX_BATCH_SIZE: int = env.int("OUTBOX_BATCH_SIZE", 500)
OUTBOX_LEASE_SECONDS: float = env.float("OUTBOX_LEASE_SECONDS", 5.0)

# Streams
SSE_MAX_CONNECTIONS_PER_USER: int = env.int("SSE_MAX_CONNECTIONS_PER_USER", 4)
SSE_MAX_CONNECTIONS: int = env.int("SSE_MAX_CONNECTIONS", 20_000)
SSE_CONNECTS_PER_MINUTE: int = env.int("SSE_CONNECTS_PER_MINUTE", 600)
SSE_HEARTBEAT: float = env.float("SSE_HEARTBEAT", 30.0)
SSE_CLIENT_TIMEOUT: float = env.float("SSE_CLIENT_TIMEOUT", 60.0)
SSE_CLIENT_BUFFER_BYTES: int = env.int("SSE_CLIENT_BUFFER_BYTES", 1_048_576)
SSE_SEND_TIMEOUT: float = env.float("SSE_SEND_TIMEOUT", 60.0)
SSE_RING_SIZE: int = env.int("SSE_RING_SIZE", 10_000)
SSE_RING_BYTES: int = env.int("SSE_RING_BYTES", 67_108_864)
SSE_REPLAY_LIMIT: int = env.int("SSE_REPLAY_LIMIT", 10_000)
SSE_TOKEN_SECONDS: int = env.int("SSE_TOKEN_SECONDS", 60)
REDIS_URL: str = env.str("REDIS_URL", "", validate=validate.Regexp("(redis|rediss|unix)://|$"))
SSE_REGISTRY_BACKEND: str = env.str(
    "SSE_REGISTRY_BACKEND",
    "connections.redis.RedisRegistry" if REDIS_URL else "connections.registry.DatabaseRegistry",
)
SSE_ALLOW_ORIGINS: list[str] = env.list("SSE_ALLOW_ORIGINS", [])
SSE_CLIENT_CLEANUP_INACTIVE_TIMEOUT: timedelta = env.timedelta(
    "SSE_CLIENT_CLEANUP_INACTIVE_TIMEOUT", timedelta(minutes=30)
)
CONNECTION_RETENTION_DAYS: int = env.int("CONNECTION_RETENTION_DAYS", 3)
GRIP_URLS: list[str] = env.list("GRIP_URL", [])
GRIP_KEY: str = env.str("GRIP_KEY", "changeme")
GRIP_MAX_CHANNELS: int = env.int("GRIP_MAX_CHANNELS", 20)

# Webhooks and Discord
DELIVERY_TOPICS: list[str] = env.list(
    "DELIVERY_TOPICS",
    [
        "broadcasts",
        "alert",
        "endpoint",
        "key",
        "blog",
        "foodfolio",
        "link",
        "twitchbot",
        "warcraft",
    ],
)
WEBHOOK_TIMEOUT: float = env.float("WEBHOOK_TIMEOUT", 30.0)
WEBHOOK_CONCURRENCY: int = env.int("WEBHOOK_CONCURRENCY", 10)
WEBHOOK_ALLOWED_NETWORKS: list[str] = env.list("WEBHOOK_ALLOWED_NETWORKS", [])
WEBHOOK_MAX_RETRIES: int = env.int("WEBHOOK_MAX_RETRIES", 3)
WEBHOOK_RETRY_SCHEDULE: list[str] = env.list("WEBHOOK_RETRY_SCHEDULE", [])
WEBHOOK_DISABLE_AFTER_DAYS: int = env.int("WEBHOOK_DISABLE_AFTER_DAYS", 5)
WEBHOOK_SECRET_OVERLAP: timedelta = env.timedelta("WEBHOOK_SECRET_OVERLAP", timedelta(hours=24))
WEBHOOK_CLEANUP_RETENTION_DAYS: int = env.int("WEBHOOK_CLEANUP_RETENTION_DAYS", 30)
NOTIFICATION_RETRY_MAX_RETRIES: int = env.int("NOTIFICATION_RETRY_MAX_RETRIES", 3)
NOTIFICATION_CLEANUP_RETENTION_DAYS: int = env.int("NOTIFICATION_CLEANUP_RETENTION_DAYS", 30)
NOTIFICATION_CLEANUP_FAILED_RETENTION_DAYS: int = env.int(
    "NOTIFICATION_CLEANUP_FAILED_RETENTION_DAYS", 90
)

# Blog
BLOG_COMMENTS_PER_HOUR: int = env.int("BLOG_COMMENTS_PER_HOUR", 10)
BLOG_MEDIA_MAX_BYTES: int = env.int("BLOG_MEDIA_MAX_BYTES", 10_485_760)

# Warcraft
BATTLENET_CLIENT_ID: str = env.str("BATTLENET_CLIENT_ID", "")
BATTLENET_CLIENT_SECRET: str = env.str("BATTLENET_CLIENT_SECRET", "")
BATTLENET_TOKEN_URL: str = env.str("BATTLENET_TOKEN_URL", "https://oauth.battle.net/token")
BATTLENET_API_URL: str = env.str("BATTLENET_API_URL", "https://{region}.api.blizzard.com")
BATTLENET_CN_CLIENT_ID: str = env.str("BATTLENET_CN_CLIENT_ID", "")
BATTLENET_CN_CLIENT_SECRET: str = env.str("BATTLENET_CN_CLIENT_SECRET", "")
BATTLENET_CN_TOKEN_URL: str = env.str(
    "BATTLENET_CN_TOKEN_URL", "https://oauth.battlenet.com.cn/token"
)
BATTLENET_CN_API_URL: str = env.str("BATTLENET_CN_API_URL", "https://gateway.battlenet.com.cn")
BATTLENET_LOCALE: str = env.str(
    "BATTLENET_LOCALE", "en_US", validate=validate.Regexp("[a-z]{2}_[A-Z]{2}$")
)
BATTLENET_TIMEOUT: float = env.float("BATTLENET_TIMEOUT", 30.0)
BATTLENET_CONCURRENCY: int = env.int("BATTLENET_CONCURRENCY", 4, validate=validate.Range(1, 32))
BATTLENET_REQUESTS_PER_HOUR: int = env.int(
    "BATTLENET_REQUESTS_PER_HOUR", 32_400, validate=validate.Range(min=60)
)
BATTLENET_REQUESTS_PER_SECOND: int = env.int(
    "BATTLENET_REQUESTS_PER_SECOND", 80, validate=validate.Range(min=1)
)
WARCRAFT_REFRESHES_PER_MINUTE: int = env.int(
    "WARCRAFT_REFRESHES_PER_MINUTE", 30, validate=validate.Range(min=1)
)

# Twitch
MESSAGE_CLEANUP_RETENTION_DAYS: int = env.int(
    "MESSAGE_CLEANUP_RETENTION_DAYS", 90, validate=validate.Range(min=1)
)
STREAM_CLOSER_INACTIVE_TIMEOUT: timedelta = env.timedelta(
    "STREAM_CLOSER_INACTIVE_TIMEOUT", timedelta(hours=24)
)

# Links
LINK_SHORTENER: str = env.str("LINK_SHORTENER", "domains.links.shortener.Shortener")
LINK_CLICK_RETENTION_DAYS: int = env.int("LINK_CLICK_RETENTION_DAYS", 90)
GEOIP_PATH: str = env.str("GEOIP_PATH", "")

# API keys
API_KEY_LIMIT_MINUTE: int = env.int("API_KEY_LIMIT_MINUTE", 60)
API_KEY_LIMIT_HOUR: int = env.int("API_KEY_LIMIT_HOUR", 1_000)
API_KEY_LIMIT_DAY: int = env.int("API_KEY_LIMIT_DAY", 10_000)
API_KEY_LIMITS_WITHOUT_REDIS: str = env.str(
    "API_KEY_LIMITS_WITHOUT_REDIS", "allow", validate=validate.OneOf(["allow", "refuse"])
)
API_KEY_ROTATION_OVERLAP: timedelta = env.timedelta("API_KEY_ROTATION_OVERLAP", timedelta(hours=24))

# Audit
AUDIT_RETENTION_DAYS: int = env.int("AUDIT_RETENTION_DAYS", 365, validate=validate.Range(min=0))

# Kafka Connect with Debezium
DEBEZIUM_URL: str = env.str("DEBEZIUM_URL", "", validate=validate.Regexp("https?://|$"))
DEBEZIUM_USER: str = env.str("DEBEZIUM_USER", "")
DEBEZIUM_PASSWORD: str = env.str("DEBEZIUM_PASSWORD", "")
DEBEZIUM_TIMEOUT: float = env.float("DEBEZIUM_TIMEOUT", 10.0)
DEBEZIUM_MAX_RESTARTS: int = env.int("DEBEZIUM_MAX_RESTARTS", 5)
DEBEZIUM_RESTART_BACKOFF: timedelta = env.timedelta(
    "DEBEZIUM_RESTART_BACKOFF", timedelta(minutes=2)
)
DEBEZIUM_WAL_LIMIT: int = env.int("DEBEZIUM_WAL_LIMIT", 1_000_000_000)
DEBEZIUM_ASK_DATABASES: bool = env.bool("DEBEZIUM_ASK_DATABASES", False)
DEBEZIUM_CONNECTORS_DIR: str = env.str("DEBEZIUM_CONNECTORS_DIR", "")
# What files of connectors may name; from a file as well, as every variable (`CONNECTOR_A_FILE`).
CONNECTOR_VARIABLES: dict[str, str] = {
    name: env.str(name)
    for name in {name.removesuffix("_FILE") for name in os.environ}
    if name.startswith("CONNECTOR_")
}

# Servers
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.dj_db_url("DATABASE_URL", f"sqlite:///{VAR_DIR / 'db.sqlite3'}")
}
DATABASE_POOL_SIZE: int = env.int("DATABASE_POOL_SIZE", 6)
QCLUSTER_WORKERS: int = env.int("QCLUSTER_WORKERS", 4)
QCLUSTER_TIMEOUT: int = env.int("QCLUSTER_TIMEOUT", 3_600, validate=validate.Range(min=1))
HTTPS: bool = env.bool("HTTPS", False)
TRUSTED_PROXIES: int = env.int("TRUSTED_PROXIES", 0, validate=validate.Range(min=0))
METRICS_TOKEN: str = env.str("METRICS_TOKEN", "")


# Jobs: each may be switched off and timed by <NAME>_ENABLED and <NAME>_INTERVAL; their names are
# known when the apps are loaded, so what could be one of them is handed on as it is.
JOB_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name.endswith(("_ENABLED", "_INTERVAL"))
}
RUN_RETENTION_DAYS: int = env.int("RUN_RETENTION_DAYS", 30)

env.seal()

DATABASES["default"]["ATOMIC_REQUESTS"] = False
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # select_for_update is a no-op here: IMMEDIATE takes the write lock at BEGIN instead.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=134217728;"
        ),
    }
    DATABASES["default"]["TEST"] = {"NAME": VAR_DIR / "test.sqlite3"}
else:
    # A process that froze, or whose network was cut, in the middle of a transaction must not keep
    # its locks for ever.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "options": "-c idle_in_transaction_session_timeout=60s",
        "prepare_threshold": 5,  # for cursors that bind in the server: Django's own do not
    } | DATABASES["default"].get("OPTIONS", {})

EMAIL_BACKEND: str = EMAIL["EMAIL_BACKEND"]
EMAIL_FILE_PATH: str = EMAIL["EMAIL_FILE_PATH"]
EMAIL_HOST: str = EMAIL["EMAIL_HOST"]
EMAIL_PORT: int = EMAIL["EMAIL_PORT"]
EMAIL_HOST_USER: str = EMAIL["EMAIL_HOST_USER"] or ""
EMAIL_HOST_PASSWORD: str = EMAIL["EMAIL_HOST_PASSWORD"] or ""
EMAIL_USE_TLS: bool = EMAIL["EMAIL_USE_TLS"]
EMAIL_USE_SSL: bool = EMAIL["EMAIL_USE_SSL"]

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "broadcast_project.urls"
ASGI_APPLICATION = "broadcast_project.asgi.application"
USE_TZ = True
USE_I18N = True
FORMAT_MODULE_PATH = "broadcast_project.formats"

INSTALLED_APPS = [
    "daphne",
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.sitemaps",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_eventstream",
    "jobs",  # before django_q, whose command qcluster it makes careful
    "django_q",
    "outbox",
    "connections",
    "broadcasts",
    "deliveries",
    "operations",
    "domains.blog",
    "domains.links",
    "domains.pantry",
    "domains.twitch",
    "domains.warcraft",
    "broadcast_project",
]

MIDDLEWARE = [
    "jobs.correlation.Correlation",
    "broadcast_project.health.Probes",
    "connections.cors.CrossOrigin",
    "operations.keys.middleware.ApiKeyUse",
    "broadcast_project.acting.Acting",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "broadcast_project.errors.Addresses",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "jobs.correlation.request_id",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = reverse_lazy("login")
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = reverse_lazy("login")

MEDIA_URL = "media/"
MEDIA_ROOT = VAR_DIR / "media"

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)  # WhiteNoise warns when it is missing
STATICFILES_DIRS = [BASE_DIR / "broadcast_project" / "static"]
WHITENOISE_USE_FINDERS = DEBUG
WHITENOISE_AUTOREFRESH = DEBUG
FIXTURE_DIRS = [BASE_DIR / "fixtures"]
LOCALE_PATHS = [BASE_DIR / "locale"]

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^metrics$"]  # scraped on the port of each process, behind the proxy
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

CACHES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 1_000},
    }
}
if REDIS_URL:
    CACHES["default"] = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "broadcast",
        # A cache that is away is an empty one, and nobody waits for it.
        "OPTIONS": {"IGNORE_EXCEPTIONS": True, "CONNECTION_POOL_KWARGS": redis.options(REDIS_URL)},
    }

# What `manage.py demo` calls, after the demo of broadcasts
DEMOS = [
    "domains.blog.demo.create",
    "domains.links.demo.create",
    "domains.pantry.demo.create",
    "domains.twitch.demo.create",
    "domains.warcraft.demo.create",
]

# django-eventstream: its seams, filled by the stream of this project
EVENTSTREAM_CHANNELMANAGER_CLASS = "connections.channels.ChannelManager"
SSE_USER_CHANNELS = "broadcasts.directory.channels_of_each"
SSE_SCREENING = "broadcasts.screening.Preferences"
SSE_API_KEYS = "broadcast_project.keys.ApiKeys"
EVENTSTREAM_STORAGE_CLASS = "connections.channels.LogStorage"

Q_CLUSTER: dict[str, Any] = {
    "name": "broadcast",
    "orm": "default",
    "workers": QCLUSTER_WORKERS,
    "timeout": QCLUSTER_TIMEOUT,
    "retry": QCLUSTER_TIMEOUT + 60,  # above `timeout`, else what still runs is queued again
    "max_attempts": 1,  # the next tick is the retry
    "ack_failures": True,
    "catch_up": False,  # a cluster that slept runs what is due once, not every missed run
    "poll": 1.0,
    "guard_cycle": 1,
    "bulk": 5,  # one query each for five tasks; more would keep them from other nodes
    "queue_limit": 10,
    "save_limit": -1,  # runs are the history; else each task reads all that are kept
    "label": "django-q2",
}
if REDIS_URL:
    Q_CLUSTER["broker_class"] = "jobs.broker.RedisBroker"

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        # First: a cookie that comes along by chance asks for a CSRF token.
        "operations.keys.authentication.ApiKeyAuthentication",
        "broadcast_project.authentication.Session",
        "rest_framework.authentication.BasicAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["broadcast_project.permissions.Needs"],
    "DEFAULT_PAGINATION_CLASS": "broadcast_project.pagination.Pages",
    "DEFAULT_PARSER_CLASSES": ["broadcast_project.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_FILTER_BACKENDS": [
        "django_filters.rest_framework.DjangoFilterBackend",
        "rest_framework.filters.OrderingFilter",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "broadcast_project.errors.exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Broadcast API",
    "DESCRIPTION": "Compose broadcasts, follow them, read them. Streams are Server-Sent Events.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/(?:admin/|user/)?",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "broadcast_project.schema.describe_errors",
    ],
    "ENUM_NAME_OVERRIDES": {
        "BlogCommentStatus": "domains.blog.models.CommentStatus",
        "BlogPostStatus": "domains.blog.models.PostStatus",
        "ConnectorState": "operations.debezium.models.State",
        "BroadcastStatus": "broadcasts.models.Status",
        "ReceiptStatus": "broadcasts.models.ReceiptStatus",
        "RuleOutcome": "broadcasts.rule_models.Outcome",
        "SeriesState": "broadcasts.series_models.State",
        "DeliveryStatus": "deliveries.models.Status",
        "EndpointKind": "deliveries.models.Kind",
        "EndpointState": "deliveries.models.State",
        "JobState": "jobs.board.STATES",
        "ApiKeyState": "operations.keys.models.State",
        "Priority": "broadcasts.api.operators.PRIORITIES",
        "RosterChangeKind": "domains.warcraft.models.RosterChange.Kind",
        "WarcraftRegion": "domains.warcraft.models.Region",
        "WarcraftStatus": "domains.warcraft.models.Status",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {"format": "{asctime} {levelname} {name}{about} {message}", "style": "{"},
        "json": {"()": "broadcast_project.logs.Json"},
    },
    "filters": {"correlated": {"()": "broadcast_project.logs.Correlated"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": LOG_FORMAT,
            "filters": ["correlated"],
        }
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    # Four lines for each tick of each job would hide the rest; what jobs do stands in their runs.
    # Nor is a line wanted for each request to a proxy or to the directory.
    "loggers": {
        "django-q": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        # Django's own handlers would write each of its lines a second time, in their own way.
        "django": {"handlers": []},
        "django.server": {"handlers": [], "propagate": True},
    },
}

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": _("Broadcast"),
    "SITE_HEADER": _("Broadcast"),
    "SITE_SUBHEADER": _("Operator console"),
    "SITE_SYMBOL": "campaign",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": "broadcast_project.console.icon"}
    ],
    "STYLES": ["broadcast_project.console.stylesheet"],
    "SCRIPTS": ["broadcast_project.console.script"],
    "DASHBOARD_CALLBACK": "broadcast_project.console.dashboard",
    "SIDEBAR": {"navigation": "broadcast_project.console.navigation", "show_search": True},
}
