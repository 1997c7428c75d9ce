"""A factory for every model; keys, users and members come with what is needed to use them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from accounts.models import Membership, RefreshFamily, Role, User
from billing.models import Correction, Price
from lib.ids import first_uuid7, prefixed, uuid7
from providers.models import Credential, Model, Operation, Provider, Route, Target
from tenants import services
from tenants.keys import Mode
from tenants.models import ApiKey, Plan, Project, Tenant
from usage.models import Attempt, OpenCall, UsageRecord

PASSWORD = "correct horse battery staple"


class PlanFactory(DjangoModelFactory):
    class Meta:
        model = Plan
        django_get_or_create = ["slug"]

    slug = "standard"
    name = "Standard"


class TenantFactory(DjangoModelFactory):
    class Meta:
        model = Tenant

    slug = factory.Sequence(lambda n: f"tenant-{n}")
    name = factory.LazyAttribute(lambda tenant: tenant.slug.title())
    plan = factory.SubFactory(PlanFactory)


class ProjectFactory(DjangoModelFactory):
    class Meta:
        model = Project

    tenant = factory.SubFactory(TenantFactory)
    slug = factory.Sequence(lambda n: f"project-{n}")
    name = factory.LazyAttribute(lambda project: project.slug)


class ApiKeyFactory(DjangoModelFactory):
    """Made by the service, as keys are; `text` on the instance is the key itself."""

    class Meta:
        model = ApiKey

    project = factory.SubFactory(ProjectFactory)
    name = "a key"
    mode = Mode.LIVE
    scopes = ["*"]

    @classmethod
    def _create(cls, model_class: Any, *args: Any, **fields: Any) -> ApiKey:
        tenant = fields.pop("tenant", None)
        if tenant is not None:
            project = Project.objects.filter(tenant=tenant).first()
            fields["project"] = project or ProjectFactory(tenant=tenant)
        key, text = services.create_key(**fields)
        key.text = text  # type: ignore[attr-defined]
        return key


class UserFactory(DjangoModelFactory):
    class Meta:
        model = User

    email = factory.Sequence(lambda n: f"user{n}@example.test")
    name = "A User"

    @classmethod
    def _create(cls, model_class: Any, *args: Any, **fields: Any) -> User:
        return User.objects.create_user(password=fields.pop("password", PASSWORD), **fields)


class MembershipFactory(DjangoModelFactory):
    class Meta:
        model = Membership

    user = factory.SubFactory(UserFactory)
    tenant = factory.SubFactory(TenantFactory)
    role = Role.OWNER


class RefreshFamilyFactory(DjangoModelFactory):
    class Meta:
        model = RefreshFamily

    id = factory.LazyFunction(lambda: prefixed("fam"))
    user = factory.SubFactory(UserFactory)
    current_jti = "jti"
    expires_at = factory.LazyFunction(lambda: timezone.now() + dt.timedelta(days=1))


class ProviderFactory(DjangoModelFactory):
    class Meta:
        model = Provider

    slug = factory.Sequence(lambda n: f"provider-{n}")
    name = factory.LazyAttribute(lambda provider: provider.slug)
    adapter = "openai"
    base_url = "https://upstream.example.test/v1"


class CredentialFactory(DjangoModelFactory):
    class Meta:
        model = Credential

    provider = factory.SubFactory(ProviderFactory)
    name = factory.Sequence(lambda n: f"credential-{n}")

    @classmethod
    def _create(cls, model_class: Any, *args: Any, **fields: Any) -> Credential:
        secret = fields.pop("secret", "upstream-secret-0123456789")
        credential = Credential(**fields)
        credential.set_secret(secret)
        credential.save()
        return credential


class ModelFactory(DjangoModelFactory):
    class Meta:
        model = Model

    provider = factory.SubFactory(ProviderFactory)
    model_id = factory.Sequence(lambda n: f"model-{n}")


class PriceFactory(DjangoModelFactory):
    class Meta:
        model = Price

    provider = factory.SubFactory(ProviderFactory)
    model_id = factory.Sequence(lambda n: f"model-{n}")
    effective_from = factory.LazyFunction(timezone.now)
    input = 1_250_000
    output = 10_000_000


class CorrectionFactory(DjangoModelFactory):
    class Meta:
        model = Correction

    request_id = factory.LazyFunction(uuid7)
    reason = "price 1"
    tenant_id = 1
    charge = -5
    cost = -4


class OperationFactory(DjangoModelFactory):
    class Meta:
        model = Operation
        django_get_or_create = ["name"]

    name = "finance.quote"
    category = "finance"
    summary = "The latest price."


class RouteFactory(DjangoModelFactory):
    class Meta:
        model = Route

    operation = "chat.completions"
    alias = factory.Sequence(lambda n: f"alias-{n}")


class TargetFactory(DjangoModelFactory):
    class Meta:
        model = Target

    route = factory.SubFactory(RouteFactory)
    model = factory.SubFactory(ModelFactory)
    provider = factory.LazyAttribute(lambda target: target.model.provider)


class UsageRecordFactory(DjangoModelFactory):
    class Meta:
        model = UsageRecord

    request_id = factory.LazyAttribute(
        lambda row: first_uuid7(row.created_at.timestamp()) + uuid7()[13:]
    )
    created_at = factory.LazyFunction(timezone.now)
    tenant_id = 1
    mode = "live"
    operation = "chat.completions"
    route = "fast"
    provider = "lab"
    model = "gpt-x"
    status = 200
    code = "ok"
    streamed = False
    estimate = ""
    attempts = 1
    input_tokens = 10
    output_tokens = 20
    cached_tokens = 0
    reasoning_tokens = 0
    units = 0
    charge = 1_250_000
    cost = 1_000_000
    latency_ms = 321


class AttemptFactory(DjangoModelFactory):
    class Meta:
        model = Attempt

    request_id = factory.LazyFunction(uuid7)
    number = 1
    created_at = factory.LazyFunction(timezone.now)
    provider = "lab"
    model = "gpt-x"
    verdict = "ok"
    status = 200
    latency_ms = 300


class OpenCallFactory(DjangoModelFactory):
    class Meta:
        model = OpenCall

    request_id = factory.LazyFunction(uuid7)
    opened_at = factory.LazyFunction(timezone.now)
    expires_at = factory.LazyFunction(lambda: timezone.now() + dt.timedelta(minutes=5))
    record = factory.LazyFunction(dict)
