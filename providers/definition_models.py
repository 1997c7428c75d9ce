"""Versions of definitions, and the calls by which providers are verified."""

from __future__ import annotations

from pathlib import Path

from django.db import models
from django.utils import timezone

from lib.audited import Audited
from lib.models import Published, Topic
from providers.catalogue import CatalogueFile, parse_document


class Definition(Audited):
    """One version of what a provider is: its document as it was written, with its examples.

    Never changed once it is made but for its state; what is in force is copied from the active
    one into the provider's row, which the data path reads.
    """

    untold = frozenset({"document", "examples"})  # long, never changed, and kept here

    class Source(models.TextChoices):
        BUILTIN = "builtin", "shipped"
        OPERATOR = "operator", "by staff"

    class State(models.TextChoices):
        DRAFT = "draft", "not in force yet"
        ACTIVE = "active", "in force"
        RETIRED = "retired", "was in force"

    slug = models.SlugField(max_length=63)
    version = models.PositiveIntegerField()
    source = models.CharField(max_length=12, choices=Source)
    document = models.TextField(help_text="The YAML as it was written.")
    examples = models.JSONField(
        default=list, blank=True, help_text="A shipped version's are in the catalogue's folder."
    )
    checksum = models.CharField(max_length=64, help_text="Of the document's content.")
    state = models.CharField(max_length=8, choices=State, default=State.DRAFT)
    by = models.CharField(max_length=100, help_text="A user, an API key or a command.")
    note = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    activated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["slug", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["slug", "version"], name="definition_version"),
            models.UniqueConstraint(
                fields=["slug"], condition=models.Q(state="active"), name="one_active_definition"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.slug} v{self.version}"

    def read(self) -> CatalogueFile:
        """Raises CatalogueError."""
        return parse_document(self.document, Path(f"{self.slug}.yaml"))


class Check(models.Model):
    """One real call to a provider that no caller asked for: to verify it, or to try it out."""

    class Kind(models.TextChoices):
        VERIFICATION = "verification"
        TRIAL = "trial", "tried by staff"

    slug = models.SlugField(max_length=63)
    kind = models.CharField(max_length=12, choices=Kind)
    operation = models.CharField(max_length=64)
    verdict = models.CharField(max_length=24)
    status = models.PositiveSmallIntegerField(default=0, help_text="Of HTTP; 0 for no answer.")
    latency_ms = models.PositiveIntegerField()
    drift = models.BooleanField(
        default=False, help_text="It answered in a shape that its definition does not tell."
    )
    message = models.CharField(max_length=300, blank=True)
    by = models.CharField(max_length=100)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["slug", "-created_at"], name="check_of_provider")]

    def __str__(self) -> str:
        return f"{self.slug} {self.verdict}"


class Drift(Published):
    """A provider that does not answer as its definition tells, until its next good answer."""

    topic = Topic.ROUTING
    untold = frozenset({"last_at"})

    slug = models.SlugField(max_length=63, unique=True)
    operation = models.CharField(max_length=64)
    message = models.CharField(max_length=300, blank=True)
    since = models.DateTimeField(default=timezone.now)
    last_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug
