"""What can be called: providers, credentials, models, operations, and the routes to them."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import TextChoices
from django.utils import timezone

import providers.definition_models  # noqa: F401 - Django looks for models here
from lib.ids import prefixed
from lib.models import Published, Topic
from providers import amounts, answer_checks, cache_rules, soundness
from providers.breaker import State
from providers.secret_form import parts_of
from providers.soundness import refuse, validate_breaker, validate_retry
from providers.vault import open_secret, seal_secret
from providers.warm_models import WarmRequest
from tenants.fields import JSONListField
from tenants.limits import (
    PROVIDER_RATE_LIMITS_SCHEMA,
    ItemFault,
    validate_provider_rate_limits,
)
from tenants.models import QuotaHolder, Tenant, validate_time_zone
from tenants.quotas import PROVIDER_QUOTAS_SCHEMA, validate_provider_quotas


class Provider(QuotaHolder):
    """A service that answers calls, spoken to through an adapter."""

    topic = Topic.ROUTING

    class Source(TextChoices):
        BUILTIN = "builtin", "shipped"
        OPERATOR = "operator", "added by staff"

    public_id = models.CharField(
        max_length=40, unique=True, editable=False, default=partial(prefixed, "prv")
    )
    slug = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=120)
    category = models.CharField(max_length=32, default="ai")
    adapter = models.CharField(max_length=32)
    base_url = models.CharField(max_length=500)
    settings = models.JSONField(
        default=dict, blank=True, help_text="What differs from the adapter's plain dialect."
    )
    manifest = models.JSONField(
        null=True, blank=True, help_text="A data provider's definition; see docs/providers."
    )
    source = models.CharField(max_length=12, choices=Source, default=Source.OPERATOR)
    checksum = models.CharField(max_length=64, blank=True, editable=False)
    docs_url = models.URLField(blank=True)
    enabled = models.BooleanField(default=True)
    needs_credential = models.BooleanField(default=True)
    allow_private_network = models.BooleanField(
        default=False,
        help_text="Let calls go to private and loopback addresses. Only for upstreams you run.",
    )
    timeouts = models.JSONField(
        default=dict, blank=True, help_text="connect_ms, first_byte_ms, idle_ms, total_ms"
    )
    breaker = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_breaker],
        help_text='When it is left alone: {"preset": "production"}, or numbers of its own: '
        "consecutive_failures, failure_rate_threshold, slow_call_rate_threshold (per cent), "
        "slow_call_seconds, minimum_calls, window, open_seconds, permitted_probes. See "
        "docs/operate/resilience.md.",
    )
    retry = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_retry],
        help_text='How often it is asked again: {"max_attempts": 3, "base_seconds": 1, '
        '"max_seconds": 4, "budget_percent": 20}: tries at one target, the first included; the '
        "longest wait before the first retry, which doubles up to max_seconds; retries per "
        "hundred calls. What is not said is the preset's or the house's. See "
        "docs/operate/resilience.md.",
    )
    rate_limits = JSONListField(
        schema=PROVIDER_RATE_LIMITS_SCHEMA,
        default=list,
        validators=[validate_provider_rate_limits],
        help_text='What it may be asked: [{"limit": 50, "per_seconds": 1}]. scope: provider '
        "(unless said), or model for each of its models; metric: requests (unless said), "
        "tokens, or concurrency, which has no per_seconds.",
        form_help="What it may be asked, in all or for each of its models. Concurrency has no "
        "seconds.",
    )
    quotas = JSONListField(
        schema=PROVIDER_QUOTAS_SCHEMA,
        default=list,
        validators=[validate_provider_quotas],
        help_text='What we may use of it: [{"metric": "requests", "window": "day", "limit": 800}]. '
        "metric: requests, tokens, cost, credits or bytes; window: minute, hour, day, month or "
        "lifetime; weights: what one request or credit of an operation counts for.",
        form_help="What we may use of it. Weights: what an operation's request or credit counts, * "
        "any other's.",
    )
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_time_zone],
        help_text="Of its quotas' windows: where its own are reset at midnight.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["category", "slug"]

    def __str__(self) -> str:
        return self.name or self.slug

    def clean(self) -> None:
        """Raises ValidationError."""
        refuse(soundness.of_provider(self))

    @transaction.atomic
    def save(self, *args: Any, **kwargs: Any) -> None:
        """What its manifest wants to be kept warm follows it."""
        super().save(*args, **kwargs)
        WarmRequest.follow(self.pk, self.slug, self.manifest)


class Credential(Published):
    """Our secret towards a provider, sealed (lib/sealing.py). Never shown again. One of several
    parts is a JSON object of them (providers/secret_form.py).

    With a `tenant` it is that tenant's own and serves nobody else.
    """

    topic = Topic.ROUTING
    hidden = frozenset({"sealed"})

    public_id = models.CharField(
        max_length=40, unique=True, editable=False, default=partial(prefixed, "crd")
    )
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="credentials")
    tenant = models.ForeignKey(
        Tenant, null=True, blank=True, on_delete=models.CASCADE, related_name="credentials"
    )
    name = models.SlugField(max_length=63, default="main")
    sealed = models.TextField(editable=False)
    last_four = models.CharField(max_length=4, editable=False, blank=True)
    enabled = models.BooleanField(default=True)
    drained_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when it is not used: the provider refused it."
    )
    drained_reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["provider_id", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "name"],
                condition=models.Q(tenant=None),
                name="house_credential_name",
            ),
            models.UniqueConstraint(
                fields=["provider", "tenant", "name"], name="tenant_credential_name"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider.slug}/{self.name}"

    @property
    def seal_owner(self) -> str:
        """Sealed with the secret, so that a row copied onto another one does not open."""
        return f"credential:{self.public_id}:{self.tenant_id or 'house'}"

    def set_secret(self, secret: str) -> None:
        self.sealed = seal_secret(secret, self.seal_owner)
        shown = len(secret) >= 12 and not parts_of(secret)
        self.last_four = secret[-4:] if shown else ""
        self.use_again()

    def use_again(self) -> None:
        """What the provider refused was another secret, or has been put right since."""
        self.drained_at, self.drained_reason = None, ""

    def secret(self) -> str:
        """Raises lib.sealing.SealBroken."""
        return open_secret(self.sealed, self.seal_owner)


class Operation(Published):
    """One thing that can be asked, whoever answers it. Rows mirror providers/operations/."""

    topic = Topic.ROUTING

    name = models.CharField(max_length=64, unique=True)
    category = models.CharField(max_length=32)
    summary = models.CharField(max_length=200)
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Model(Published):
    """An AI model at one provider. What it costs is billing.models.Price's to say."""

    topic = Topic.ROUTING

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="models")
    model_id = models.CharField(max_length=200)
    operation = models.CharField(max_length=64, default="chat.completions")
    context = models.PositiveIntegerField(null=True, blank=True)
    max_output = models.PositiveIntegerField(null=True, blank=True)
    capabilities = models.JSONField(
        default=list, blank=True, help_text='such as ["tools", "vision", "json_schema"]'
    )
    enabled = models.BooleanField(default=True)
    source = models.CharField(
        max_length=12, choices=Provider.Source, default=Provider.Source.OPERATOR
    )

    class Meta:
        ordering = ["provider_id", "model_id"]
        constraints = [
            models.UniqueConstraint(fields=["provider", "model_id"], name="model_per_provider")
        ]

    def __str__(self) -> str:
        return f"{self.provider.slug}/{self.model_id}"


class Route(Published):
    """Where calls go: a model alias, or a data operation, to an ordered list of targets."""

    topic = Topic.ROUTING

    class Strategy(TextChoices):
        PRIORITY = "priority"
        WEIGHTED = "weighted"
        LATENCY = "latency"
        COST = "cost"
        QUALITY = "quality"
        ADAPTIVE = "adaptive"

    class Rescue(models.TextChoices):
        """What happens to a stream that breaks off after its first byte."""

        NONE = "none"
        RESTART = "restart"
        CONTINUE = "continue"

    operation = models.CharField(max_length=64)
    alias = models.CharField(
        max_length=200,
        blank=True,
        help_text="What a client puts in `model`. Empty for a data operation's only route.",
    )
    strategy = models.CharField(max_length=12, choices=Strategy, default=Strategy.PRIORITY)
    rescue = models.CharField(max_length=12, choices=Rescue, default=Rescue.NONE)
    hedge = models.BooleanField(
        default=False,
        help_text="Ask a second target when the first is slower than its 95th percentile. "
        "Only data operations, which read.",
    )
    fan_out = models.PositiveSmallIntegerField(
        default=5,
        db_default=5,
        validators=[MinValueValidator(1), MaxValueValidator(20)],
        help_text="How many targets a data call may ask at once with `?strategy=`; 1: one at a "
        "time. See docs/api/aggregation.md.",
    )
    checks = models.JSONField(
        default=dict,
        blank=True,
        help_text="What an answer must be, or the next target is asked. "
        "See docs/operate/resilience.md.",
    )
    cache = models.JSONField(
        default=dict,
        blank=True,
        help_text="How long answers are kept, where the operation's own rules are not right: "
        '{"ttl": 300}, in seconds; 0 keeps nothing. See docs/operate/cache.md.',
    )
    timeouts = models.JSONField(default=dict, blank=True)
    enabled = models.BooleanField(default=True)
    source = models.CharField(
        max_length=12, choices=Provider.Source, default=Provider.Source.OPERATOR
    )

    class Meta:
        ordering = ["operation", "alias"]
        constraints = [
            models.UniqueConstraint(fields=["operation", "alias"], name="route_per_alias")
        ]

    def __str__(self) -> str:
        return self.alias or self.operation

    def clean(self) -> None:
        """Raises ValidationError."""
        unfit = soundness.of_route(self.operation, self.alias)
        refuse([*([unfit] if unfit else []), *soundness.of_timeouts(self.timeouts)])
        try:
            answer_checks.parse(self.checks)
        except answer_checks.CheckFault as fault:
            raise ValidationError({"checks": ItemFault(fault.path, fault.text, "checks")}) from None
        if self.checks and self.operation in ("embeddings", *amounts.OF):
            raise ValidationError({"checks": "Only chats and data are checked. Leave it empty."})
        try:
            cache_rules.parse(self.cache)
        except cache_rules.CacheFault as fault:
            raise ValidationError({"cache": ItemFault(fault.path, fault.text, "cache")}) from None
        if self.cache.get("semantic") and self.operation != "chat.completions":
            raise ValidationError({"cache": "Only routes of chat.completions are `semantic`."})


class Target(Published):
    """One place a route may send a call to."""

    topic = Topic.ROUTING

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="targets")
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="targets")
    model = models.ForeignKey(Model, null=True, blank=True, on_delete=models.CASCADE)
    position = models.PositiveSmallIntegerField(default=0, help_text="Lower is tried first.")
    weight = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["route_id", "position", "id"]

    def __str__(self) -> str:
        return str(self.model) if self.model else self.provider.slug

    def clean(self) -> None:
        """Raises ValidationError."""
        self._check_owner()
        route, provider = getattr(self, "route", None), getattr(self, "provider", None)
        if route is not None and provider is not None:
            unfit = soundness.of_target(route.operation, provider, self.model)
            refuse([unfit] if unfit else [])

    def save(self, *args: Any, **kwargs: Any) -> None:
        self._check_owner()
        super().save(*args, **kwargs)

    def _check_owner(self) -> None:
        if self.model and self.model.provider_id != self.provider_id:
            raise ValidationError({"model": "The model belongs to another provider."})


class BreakerOverride(Published):
    """Staff's word on a breaker. The latest of a name counts, until it expires; the rows stay,
    and say who did what and why."""

    topic = Topic.ROUTING

    class To(TextChoices):
        FORCED_OPEN = State.FORCED_OPEN.value, "forced open: no calls"
        DISABLED = State.DISABLED.value, "disabled: all calls, nothing is counted"
        CLOSED = State.CLOSED.value, "closed, once, with nothing counted so far"

    name = models.CharField(
        max_length=264, db_index=True, help_text="provider, or provider/model for one target."
    )
    state = models.CharField(max_length=12, choices=To)
    reason = models.CharField(max_length=500)
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="Empty: until it is closed here."
    )
    by = models.CharField(max_length=100, editable=False, help_text="A user or an API key.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.name} {self.state}"

    @classmethod
    def latest(cls, now: dt.datetime) -> models.QuerySet[BreakerOverride]:
        """Of each name the last one, unless it has ended."""
        last = cls.objects.values("name").annotate(last=models.Max("pk")).values("last")
        in_force = models.Q(expires_at=None) | models.Q(expires_at__gt=now)
        return cls.objects.filter(in_force, pk__in=last)

    def clean(self) -> None:
        """Raises ValidationError."""
        provider, _, model_id = self.name.partition("/")
        found = Provider.objects.filter(slug=provider)
        if model_id:
            found = found.filter(models__model_id=model_id)
        if not found.exists():
            raise ValidationError(
                {"name": "No such provider or target. Write provider, or provider/model."}
            )
        if not self.reason.strip():
            raise ValidationError({"reason": "Say why: others will want to know."})
        if self.expires_at is not None and self.expires_at <= self.created_at:
            raise ValidationError({"expires_at": "That is in the past."})
