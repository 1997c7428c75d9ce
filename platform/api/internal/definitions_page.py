"""Definitions as pages of the admin: versions, an editor that says what is wrong by line, a form to
try a call out, and the buttons that put a version in force or go back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import validate_slug
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from api.configuration.activating import activate, roll_back
from api.internal.definitions import CHANGE, MAKE, active_of
from api.internal.verification import VERIFY
from api.trying import AGAINST, try_out
from lib.problems import Problem
from providers import definitions
from providers.definition_models import Check, Definition, Drift
from providers.models import Provider, Target
from providers.proving import Proof, prove
from providers.verification import verify

VIEW = "providers.view_definition"
SHOWN_CHECKS = 20
Text = forms.CharField


class BeginForm(forms.Form):
    """What a new provider begins with."""

    slug = Text(
        max_length=63,
        label="A new provider's slug",
        widget=UnfoldAdminTextInputWidget,
        help_text="Lower-case letters, digits and hyphens.",
    )
    template = forms.ChoiceField(
        label="It serves",
        choices=[("rest", "data, from an HTTP API"), ("ai", "models, in OpenAI's shape")],
        widget=UnfoldAdminSelectWidget,
    )


class EditorForm(forms.Form):
    document = Text(
        strip=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 30, "class": "json"})
    )
    examples = Text(
        strip=False,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 12, "class": "json"}),
        help_text="A JSON list. One that is answered and maps is needed for each operation.",
    )
    note = Text(max_length=500, required=False, widget=UnfoldAdminTextInputWidget)

    def clean_examples(self) -> Any:
        try:
            return orjson.loads(self.cleaned_data["examples"] or "[]")
        except orjson.JSONDecodeError as error:
            raise ValidationError(f"No JSON: line {error.lineno}, column {error.colno}.") from None


_AGAINST: dict[str, str] = dict(
    zip(
        AGAINST,
        ("an example: nobody is asked", "the sandbox", "the provider itself: a real call"),
        strict=True,
    )
)


class TrialForm(forms.Form):
    operation = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    against = forms.ChoiceField(choices=list(_AGAINST.items()), widget=UnfoldAdminSelectWidget)
    example = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)
    params = Text(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "class": "json"}),
        help_text="A JSON object. Against an example, empty: the example's own.",
    )

    def __init__(self, proof: Proof, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        operations = proof.file.operations if proof.file else ()
        examples = [each.example.name for each in proof.results]
        self.fields["operation"].choices = [(name, name) for name in operations]  # type: ignore[attr-defined]
        self.fields["example"].choices = [  # type: ignore[attr-defined]
            ("", "the operation's first"),
            *((name, name) for name in examples),
        ]

    def clean_params(self) -> dict[str, Any]:
        try:
            params = orjson.loads(self.cleaned_data["params"] or "{}")
        except orjson.JSONDecodeError as error:
            raise ValidationError(f"No JSON: line {error.lineno}, column {error.colno}.") from None
        if not isinstance(params, dict):
            raise ValidationError("Must be an object.")
        return params


def index(request: HttpRequest) -> HttpResponseBase:
    """All providers that have definitions, or those that are looked for, and the way to a new
    one."""
    _require(request, VIEW)
    slug, sought = request.GET.get("slug", ""), request.GET.get("q", "").strip()[:64]
    if slug:
        return _to_editor(request, slug)
    rows = Definition.objects.filter(state=Definition.State.ACTIVE, slug__contains=sought.lower())
    context = {
        "rows": rows.order_by("slug"),
        "drifting": set(Drift.objects.values_list("slug", flat=True)),
        "form": BeginForm(),
        "sought": sought,
    }
    return _page(request, "api/definitions_index.html", "Definitions", context)


def versions(request: HttpRequest, slug: str) -> HttpResponseBase:
    """One provider: its versions, and how it answered lately."""
    _require(request, VIEW)
    if request.method == "POST":
        return _of_provider(request, slug)
    rows = list(Definition.objects.filter(slug=slug))
    if not rows:
        raise Http404
    active = next((row for row in rows if row.state == Definition.State.ACTIVE), None)
    context = {
        "slug": slug,
        "rows": rows,
        "active": active,
        "newer": definitions.newer_shipped(active) if active else None,
        "before": definitions.previous(active) if active else None,
        "drift": Drift.objects.filter(slug=slug).first(),
        "checks": Check.objects.filter(slug=slug)[:SHOWN_CHECKS],
        "provider": Provider.objects.filter(slug=slug).first(),
        "targets": Target.objects.filter(provider__slug=slug).select_related("route"),
    }
    return _page(request, "api/definitions.html", f"Definition of {slug}", context)


def editor(request: HttpRequest, slug: str) -> HttpResponseBase:
    """A new version, begun as a copy of `?from=`: checked as often as one likes, then kept."""
    _require(request, MAKE)
    base = _base(request, slug)
    kind = "ai" if request.GET.get("template") == "ai" else "rest"
    form = EditorForm(request.POST or None, initial=_initial(slug, base, kind))
    proof: Proof | None = None
    if form.is_valid():
        said = form.cleaned_data
        proof = prove(slug, said["document"], said["examples"])
        if "save" in request.POST:
            with _told(request):
                row = definitions.create(slug=slug, by=_by(request), **said)
                return redirect("definition", slug=slug, version=row.version)
    context = {"slug": slug, "form": form, "proof": proof, "base": base}
    return _page(request, "api/definition_editor.html", f"New version of {slug}", context)


def version(request: HttpRequest, slug: str, version: int) -> HttpResponseBase:
    """One version: what it says, what is wrong with it, what it changes, and a call tried out."""
    _require(request, VIEW)
    row = get_object_or_404(Definition, slug=slug, version=min(version, 2**31 - 1))
    if request.method == "POST" and "activate" in request.POST:
        return _activate(request, row)
    proof = definitions.proof_of(row)
    tries = request.method == "POST" and "try" in request.POST
    form = TrialForm(proof, request.POST if tries else None)
    active = active_of(slug)
    context = {
        "row": row,
        "proof": proof,
        "document": list(enumerate(row.document.splitlines(), 1)),
        "diff": _marked(definitions.difference(active, row)) if active and active != row else [],
        "active": active,
        "form": form,
        "trial": _try(request, row, form) if tries else None,
    }
    return _page(request, "api/definition.html", str(row), context)


def _of_provider(request: HttpRequest, slug: str) -> HttpResponseBase:
    if "verify" in request.POST:
        _require(request, VERIFY)
        with _told(request):
            check = verify(provider=get_object_or_404(Provider, slug=slug), by=_by(request))
            messages.info(request, f"{check.verdict}, after {check.latency_ms} ms.")
    elif "roll_back" in request.POST:
        _require(request, CHANGE)
        with _told(request):
            done = roll_back(slug=slug, by=_by(request), user=_user(request))
            messages.success(request, f"{done.definition} is in force within a second.")
    return redirect("definitions", slug=slug)


def _activate(request: HttpRequest, row: Definition) -> HttpResponseBase:
    _require(request, CHANGE)
    with _told(request):
        done = activate(definition=row, by=_by(request), user=_user(request))
        messages.success(request, f"{done.definition} is in force within a second.")
        for name in done.left:
            messages.warning(request, f"The route of {name} is staff's: add the target there.")
        return redirect("definitions", slug=row.slug)
    return redirect("definition", slug=row.slug, version=row.version)


def _marked(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Each line of a difference, with what happens to it."""
    kinds = {"+++": "place", "---": "place", "@@ ": "place"}
    by_sign = {"+": "added", "-": "removed"}
    return [(kinds.get(line[:3]) or by_sign.get(line[:1], "same"), line) for line in lines]


def _try(request: HttpRequest, row: Definition, form: TrialForm) -> dict[str, Any] | None:
    _require(request, CHANGE)
    if not form.is_valid():
        return None
    with _told(request):
        told = try_out(row, by=_by(request), **form.cleaned_data).as_document()
        return {**told, "canonical": _indented(told["canonical"])}
    return None


def _base(request: HttpRequest, slug: str) -> Definition | None:
    number = request.GET.get("from", "")
    rows = Definition.objects.filter(slug=slug)
    if number.isdecimal() and len(number) < 10:
        return rows.filter(version=int(number)).first()
    return active_of(slug) or rows.order_by("-version").first()


def _initial(slug: str, base: Definition | None, kind: str) -> dict[str, Any]:
    if base is None:
        document, examples = definitions.template(kind, slug)
        return {"document": document, "examples": _indented(examples)}
    return {"document": base.document, "examples": _indented(definitions.examples_of(base))}


def _to_editor(request: HttpRequest, slug: str) -> HttpResponseBase:
    try:
        validate_slug(slug)
    except ValidationError:
        messages.error(request, "A slug has lower-case letters, digits and hyphens.")
        return redirect("definitions-index")
    kind = "?template=ai" if request.GET.get("template") == "ai" else ""
    return redirect(reverse("definition-editor", args=[slug]) + kind)


@contextmanager
def _told(request: HttpRequest) -> Iterator[None]:
    """What is refused is said on the page that comes next."""
    try:
        yield
    except ValidationError as error:
        for text in error.messages:
            messages.error(request, text)
    except Problem as problem:
        messages.error(request, problem.detail)
        for each in problem.extra.get("errors", ()):
            messages.error(request, f"{each.get('pointer', '')} {each['detail']}")


def _require(request: HttpRequest, permission: str) -> None:
    """Raises PermissionDenied."""
    if not request.user.has_perm(permission):
        raise PermissionDenied


def _page(
    request: HttpRequest, template: str, title: str, context: dict[str, Any]
) -> TemplateResponse:
    may: dict[str, bool] = {
        "make": request.user.has_perm(MAKE),
        "change": request.user.has_perm(CHANGE),
        "verify": request.user.has_perm(VERIFY),
    }
    whole = {**admin.site.each_context(request), "title": title, "may": may, **context}
    return TemplateResponse(request, template, whole)


def _indented(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _user(request: HttpRequest) -> Any:
    return request.user


def _by(request: HttpRequest) -> str:
    email: str = _user(request).email
    return email


PAGES: tuple[tuple[str, Callable[..., HttpResponseBase], str], ...] = (
    ("admin/definitions/", index, "definitions-index"),
    ("admin/definitions/<slug:slug>/", versions, "definitions"),
    ("admin/definitions/<slug:slug>/new/", editor, "definition-editor"),
    ("admin/definitions/<slug:slug>/<int:version>/", version, "definition"),
)
