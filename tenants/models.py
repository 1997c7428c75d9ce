"""Who calls: tenants, their projects, plans and API keys."""

from __future__ import annotations

import zoneinfo
from functools import partial
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.utils import timezone

from lib.ids import prefixed
from lib.models import Published, PublishedQuerySet, Revision, Topic
from tenants.fields import JSONListField
from tenants.keys import Mode
from tenants.limits import (
    HOUSE_RATE_LIMITS_SCHEMA,
    RATE_LIMITS_SCHEMA,
    validate_house_rate_limits,
    validate_rate_limits,
)
from tenants.locales import DEFAULT, validate_locale
from tenants.quotas import (
    HOUSE_QUOTAS_SCHEMA,
    IN_FORCE_SECONDS,
    KEY_QUOTAS_SCHEMA,
    QUOTAS_SCHEMA,
    validate_house_quotas,
    validate_key_quotas,
    validate_quotas,
)

RATE_LIMITS_ROWS = (
    "An endpoint's and a model's are each tenant's own. Concurrency is counted at every moment and "
    "has no seconds. Operations: which it counts, or which it leaves out with a leading “!”."
)
QUOTAS_ROWS = (
    "Cost is limited in USD, all else in whole numbers. Tell at: per cent of the limit. Weights: "
    "what an operation's request or credit counts, * any other's. Operations: as in rate limits."
)
RATE_LIMITS_HELP = (
    'A list such as [{"scope": "key", "limit": 60, "per_seconds": 60}]. '
    "scope: ip, key, user, project, tenant, endpoint or model; "
    "metric: requests (unless said), tokens, or concurrency, which has no per_seconds; "
    "operations: which it counts, or which it leaves out with a leading “!”."
)
QUOTAS_HELP = (
    'A list such as [{"scope": "tenant", "metric": "cost", "window": "month", '
    '"limit_usd": "12.50"}]. scope: tenant, project, key, user or route; '
    "metric: requests, tokens, cost, credits or bytes; "
    "window: minute, hour, day, month or lifetime; hard: true unless said; "
    "thresholds: per cent to tell at; weights: what an operation's request or credit counts; "
    "operations: as in rate limits."
)


def validate_time_zone(name: str) -> None:
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"{name!r} is no IANA time zone, such as Europe/Stockholm")


class QuotaHolder(Published):
    """A row that says how much may be used, and since when it does so."""

    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


def in_force_since(*rows: Any) -> int:
    """The moment (whole µs) from which every gateway counts by these rows as they are now."""
    latest = max((row.changed_at for row in rows if row.changed_at), default=None)
    return 0 if latest is None else int((latest.timestamp() + IN_FORCE_SECONDS) * 1_000_000)


class Plan(QuotaHolder):
    """What a tenant bought: its limits and quotas, unless the tenant or a key says otherwise."""

    topic = Topic.KEYS

    slug = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=120)
    rate_limits = JSONListField(
        schema=RATE_LIMITS_SCHEMA,
        default=list,
        validators=[validate_rate_limits],
        help_text=RATE_LIMITS_HELP,
        form_help=RATE_LIMITS_ROWS,
    )
    quotas = JSONListField(
        schema=QUOTAS_SCHEMA,
        default=list,
        validators=[validate_quotas],
        help_text=QUOTAS_HELP,
        form_help=QUOTAS_ROWS,
    )
    markup = models.IntegerField(
        default=0,
        validators=[MinValueValidator(-10_000), MaxValueValidator(1_000_000)],
        help_text="On top of what the providers take, in hundredths of a per cent: 1250 is "
        "12.5 %. Below zero: a discount.",
    )
    cache_hit_microusd = models.PositiveIntegerField(
        default=0,
        validators=[MaxValueValidator(1_000_000_000)],
        help_text="What a call that the cache answers costs, in millionths of a dollar.",
    )
    fan_out = models.PositiveSmallIntegerField(
        default=20,
        db_default=20,
        validators=[MinValueValidator(1), MaxValueValidator(20)],
        help_text="How many providers a data call may ask at once with `?strategy=`, where its "
        "route allows as many; 1: one at a time.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name or self.slug


class Tenant(QuotaHolder):
    """A business that calls."""

    topic = Topic.KEYS

    class Status(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"

    public_id = models.CharField(
        max_length=40, unique=True, editable=False, default=partial(prefixed, "ten")
    )
    slug = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=120)
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="tenants")
    status = models.CharField(max_length=12, choices=Status, default=Status.ACTIVE)
    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    locale = models.CharField(
        max_length=16,
        default=DEFAULT,
        db_default=DEFAULT,  # for a gateway of the version before, which knows no such column
        validators=[validate_locale],
        help_text="How figures are written on its pages, such as en, de or pt-br.",
    )
    rate_limits = JSONListField(
        schema=RATE_LIMITS_SCHEMA,
        unsaid="The plan's",
        null=True,
        default=None,
        validators=[validate_rate_limits],
        help_text="Empty: the plan's. A list: these instead; [] means none.",
        form_help="Else these instead; without a row, none.",
    )
    quotas = JSONListField(
        schema=QUOTAS_SCHEMA,
        default=list,
        validators=[validate_quotas],
        help_text="Besides the plan's; one of the same scope, metric, window and operations "
        "instead of it.",
    )
    allow_house_fallback = models.BooleanField(
        default=False,
        help_text="Let a call that failed with the tenant's own credential go on with ours.",
    )
    keep_warm = models.BooleanField(
        default=False,
        help_text="Learn what its data calls ask for often, and fetch those answers again before "
        "they get stale, under its limits and on its bill.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name or self.slug


class ProjectQuerySet(PublishedQuerySet):
    def of(self, tenant: Tenant) -> ProjectQuerySet:
        return self.filter(tenant=tenant)


class Project(Published):
    """A part of a tenant that has keys and usage of its own."""

    topic = Topic.KEYS

    public_id = models.CharField(
        max_length=40, unique=True, editable=False, default=partial(prefixed, "prj")
    )
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="projects")
    slug = models.SlugField(max_length=63)
    name = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[Any] = ProjectQuerySet.as_manager()

    class Meta:
        ordering = ["tenant_id", "slug"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="project_slug_per_tenant")
        ]

    def __str__(self) -> str:
        return f"{self.tenant.slug}/{self.slug}"


def validate_networks(networks: Any) -> None:
    import ipaddress

    if not isinstance(networks, list):
        raise ValidationError('A list of networks such as ["192.0.2.0/24", "2001:db8::/32"]')
    for network in networks:
        try:
            ipaddress.ip_network(str(network))
        except ValueError:
            told = f"{network!r} is no IP network in CIDR form{_meant(network)}"
            raise ValidationError(told) from None


def _meant(network: Any) -> str:
    """The network that an address with a mask lies in, as 10.0.0.7/8 does in 10.0.0.0/8."""
    import ipaddress

    try:
        return f": {ipaddress.ip_network(str(network), strict=False)} may be meant"
    except ValueError:
        return ""


def validate_scopes(scopes: Any) -> None:
    if not isinstance(scopes, list) or not all(isinstance(s, str) and s for s in scopes):
        raise ValidationError('A list of scopes such as ["*"] or ["chat.completions"]')


class ApiKeyQuerySet(PublishedQuerySet):
    def of(self, tenant: Tenant) -> ApiKeyQuerySet:
        return self.filter(tenant=tenant)


class ApiKey(QuotaHolder):
    """A caller's secret, of which only a keyed hash is kept (tenants/keys.py).

    `scopes` name operations ("chat.completions"), categories ("finance.*"), rights
    ("health:read", "manage:keys") or everything on the data path ("*").
    """

    topic = Topic.KEYS
    hidden = frozenset({"digest"})
    untold = frozenset({"changed_at", "last_used_at"})

    public_id = models.CharField(max_length=12, unique=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="keys")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="keys")
    name = models.CharField(max_length=120)
    mode = models.CharField(max_length=4, choices=[(m.value, m.value) for m in Mode])
    digest = models.CharField(max_length=64, editable=False)
    last_four = models.CharField(max_length=4, editable=False)
    scopes = models.JSONField(default=list, validators=[validate_scopes])
    allowed_ips = models.JSONField(default=list, blank=True, validators=[validate_networks])
    rate_limits = JSONListField(
        schema=RATE_LIMITS_SCHEMA,
        unsaid="The tenant's",
        null=True,
        default=None,
        validators=[validate_rate_limits],
        help_text="Empty: the tenant's. A list: these instead; [] means none.",
        form_help="Else these instead; without a row, none.",
    )
    quotas = JSONListField(
        schema=KEY_QUOTAS_SCHEMA,
        default=list,
        validators=[validate_key_quotas],
        help_text="Of this key alone, besides the tenant's; one of the same metric, window and "
        'operations instead of it: [{"metric": "cost", "window": "day", "limit_usd": "5"}].',
        form_help="Of this key alone, besides the tenant's; one of the same metric, window and "
        "operations instead of it.",
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    replaces = models.ForeignKey(
        "self", null=True, blank=True, editable=False, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[Any] = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint})"

    @property
    def hint(self) -> str:
        """What may be shown for ever: the public part and the last four characters."""
        return f"pb_{self.mode}_{self.public_id}_…{self.last_four}"

    @property
    def key_id(self) -> str:
        return f"key_{self.public_id}"

    @property
    def has_ended(self) -> bool:
        """Whether it is refused for ever, and nothing about it can be changed any more."""
        is_over = self.expires_at is not None and self.expires_at <= timezone.now()
        return is_over or self.revoked_at is not None

    def clean(self) -> None:
        if self.project_id and self.tenant_id and self.project.tenant_id != self.tenant_id:
            raise ValidationError({"project": "The project belongs to another tenant."})


class HousePolicy(QuotaHolder):
    """What holds for everyone, besides what plans, tenants and keys say. There is one row."""

    topic = Topic.KEYS
    PK = 1

    rate_limits = JSONListField(
        schema=HOUSE_RATE_LIMITS_SCHEMA,
        default=list,
        validators=[validate_house_rate_limits],
        help_text=f"{RATE_LIMITS_HELP} Or provider: for each provider's.",
        form_help=f"{RATE_LIMITS_ROWS} Provider: for each provider's.",
    )
    quotas = JSONListField(
        schema=HOUSE_QUOTAS_SCHEMA,
        default=list,
        validators=[validate_house_quotas],
        help_text=f"{QUOTAS_HELP} Or global, for all together, or provider, for each.",
        form_help=f"{QUOTAS_ROWS} Global: for all together; provider: for each.",
    )
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_time_zone],
        help_text="Of the global quotas' windows.",
    )

    class Meta:
        verbose_name = "house policy"
        verbose_name_plural = "house policy"

    def __str__(self) -> str:
        return "House policy"

    @classmethod
    def current(cls) -> HousePolicy:
        """The row or, where nobody wrote one yet, one that says nothing."""
        row: HousePolicy | None = cls.objects.filter(pk=cls.PK).first()
        return row or cls(pk=cls.PK)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Published to both: what it says of providers is read with the routes."""
        self.pk = self.PK
        with transaction.atomic(using=kwargs.get("using")):
            super().save(*args, **kwargs)
            Revision.bump(Topic.ROUTING)
