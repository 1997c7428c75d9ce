"""Django's settings, made from the typed environment (config/environment.py)."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from csp.constants import NONCE, NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.templatetags.static import static

from config import theme
from config.caches import cache
from config.database import database
from config.environment import ROOT, ConfigurationError, load
from config.logs import logging_config
from config.mail import mail

try:
    ENV = load(env_file=Path(os.environ.get("ENV_FILE", ROOT / ".env")))
except ConfigurationError as error:
    sys.exit(str(error))

BASE_DIR = ROOT
VAR = ROOT / "var"

DEBUG = ENV.DEBUG
SECRET_KEY = ENV.SECRET_KEY
SEALING_KEYS = ENV.SEALING_KEYS
KEY_PEPPER = ENV.KEY_PEPPER.encode()
ALLOWED_HOSTS = ENV.ALLOWED_HOSTS
RESILIENCE_PRESET = ENV.RESILIENCE_PRESET
RESILIENCE = ENV.RESILIENCE
PUBLIC_HTTPS = ENV.ENVIRONMENT == "prod"

INSTALLED_APPS = [
    "unfold",
    "config.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    "csp",
    "axes",
    "django_prometheus",
    "lib",
    "tenants",
    "accounts",
    "providers",
    "usage",
    "billing",
    "api",
    "portal",
    "django_htmx",
    "config",
]

MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "api.problems.ProblemMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.security.PolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "api.acting.ActorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "platform/config/templates"],  # before Unfold's own of the same name
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {"default": database(ENV.DATABASE_URL, ROOT)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# An API must not redirect plain HTTP, which would hide that a secret went out in the clear
# (OWASP ASVS 4.1.2); for pages the proxy in front does it (deploy/nginx.conf).
SILENCED_SYSTEM_CHECKS = ["security.W008"]

CACHES = {"default": cache(ENV.REDIS_URL)}
if not ENV.REDIS_URL:
    # Without Redis there is one process, in which a local cache counts truly.
    SILENCED_SYSTEM_CHECKS += ["django_ratelimit.E003", "django_ratelimit.W001"]

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
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
PASSWORD_RESET_TIMEOUT = 3600  # seconds
LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = "/admin/"

AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_CALLABLE = "api.problems.lockout"
AXES_CLIENT_IP_CALLABLE = "api.addresses.client_address"
AXES_USERNAME_CALLABLE = "accounts.services.attempted_email"
AXES_VERBOSE = False
RATELIMIT_IP_META_KEY = "api.addresses.client_address"

globals().update(mail(ENV.EMAIL_URL))  # EMAIL_BACKEND, EMAIL_HOST and so on
DEFAULT_FROM_EMAIL = ENV.EMAIL_FROM

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True
FORMAT_MODULE_PATH = ["config.formats"]

STATIC_URL = "/static/"
STATIC_ROOT = ROOT / "staticfiles"
STATIC_ROOT.mkdir(exist_ok=True)  # empty until `collectstatic`; WhiteNoise looks for it
WHITENOISE_USE_FINDERS = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

SESSION_COOKIE_AGE = 8 * 3600
SESSION_COOKIE_SECURE = PUBLIC_HTTPS
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_SECURE = PUBLIC_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if PUBLIC_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = PUBLIC_HTTPS
SECURE_HSTS_PRELOAD = PUBLIC_HTTPS
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENV.TRUSTED_PROXY_HOPS else None
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
APPEND_SLASH = True

# A page loads and runs what this server sends as a file, and nothing else. What a library must
# put inline has the page's nonce (only ReDoc's styles do).
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
# The admin's widgets evaluate expressions and its theme is inline; still nothing comes from
# elsewhere, and no script may be inline.
ADMIN_CONTENT_SECURITY_POLICY = {
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
}

CORS_ALLOWED_ORIGINS = ENV.CORS_ORIGINS
CORS_URLS_REGEX = r"^/api/.*$"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["api.authentication.PatchbayAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["api.parsers.JsonParser"],
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_PAGINATION_CLASS": "api.pagination.CursorPages",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "api.schema.Described",
    "EXCEPTION_HANDLER": "api.problems.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "PAGE_SIZE": 50,
}
SIMPLE_JWT: dict[str, Any] = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=ENV.ACCESS_TOKEN_MINUTES),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=ENV.REFRESH_TOKEN_DAYS),
    "ALGORITHM": "HS256",
    "SIGNING_KEY": SECRET_KEY,
    "AUDIENCE": "patchbay",
    "ISSUER": "patchbay",
    "USER_ID_FIELD": "public_id",
    "USER_ID_CLAIM": "sub",
    "LEEWAY": 5,
    "UPDATE_LAST_LOGIN": False,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Patchbay",
    "DESCRIPTION": "One API in front of many providers.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/(api|internal)/v1",
    "ENUM_NAME_OVERRIDES": {
        "HealthStatus": "api.v1.health.STATES",
        "ServingStatus": "api.v1.catalogue.SERVING",
        "OperationStatus": "api.v1.catalogue.STATES",
        "TenantStatus": "tenants.models.Tenant.Status",
        "KeyMode": "api.v1.keys.MODES",
        "BreakerState": "api.v1.health.BREAKER_STATES",
        "BreakerOverrideState": "providers.models.BreakerOverride.To",
        "DefinitionState": "providers.definition_models.Definition.State",
    },
    "PREPROCESSING_HOOKS": ["api.schema.without_aliases"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "api.schema.add_data_path",
    ],
}

PROMETHEUS_EXPORT_MIGRATIONS = False
LOGGING_CONFIG = None
logging_config(ENV.LOG_LEVEL)

UNFOLD = {
    "SITE_TITLE": "Patchbay",
    "SITE_HEADER": "Patchbay",
    "SITE_SYMBOL": "cable",
    "SITE_URL": "/docs",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _: static("api/icon.svg")}
    ],
    "STYLES": [lambda _: static("api/admin.css")],
    "DASHBOARD_CALLBACK": "api.dashboard.home.add_figures",
    "ENVIRONMENT": "config.theme.environment",
    "COLORS": {"primary": theme.PRIMARY},
    "SIDEBAR": {"show_search": True, "navigation": theme.navigation},
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
}
