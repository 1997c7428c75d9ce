"""Versions of definitions for those who run the service: made, proved, tried, put in force."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from api.configuration.activating import Activated, activate, roll_back
from api.internal.breakers import who
from api.permissions import Operators, identity_of
from api.serializers import Body, Shown
from api.trying import AGAINST, try_out
from lib.problems import Forbidden, NotFound
from providers import definitions
from providers.definition_models import Definition
from providers.proving import Proof, prove

SLUG = OpenApiParameter("slug", str, OpenApiParameter.PATH, description="A provider's slug.")
VERSION = OpenApiParameter("version", int, OpenApiParameter.PATH)
MAKE, CHANGE = "providers.add_definition", "providers.change_definition"


class DefinitionShown(Shown):
    provider = serializers.CharField(source="slug")
    version = serializers.IntegerField()
    source = serializers.ChoiceField(choices=Definition.Source.choices)  # type: ignore[assignment]
    state = serializers.ChoiceField(choices=Definition.State.choices)
    checksum = serializers.CharField()
    by = serializers.CharField()
    note = serializers.CharField()
    created_at = serializers.DateTimeField()
    activated_at = serializers.DateTimeField(allow_null=True)


class WholeDefinitionShown(DefinitionShown):
    document = serializers.CharField(help_text="The YAML as it was written.")
    examples = serializers.ListField(child=serializers.DictField(), source="shown_examples")


class DefinitionList(Shown):
    data = DefinitionShown(many=True, help_text="The newest first.")  # type: ignore[assignment]
    newer_shipped = serializers.IntegerField(
        allow_null=True, help_text="A shipped version that came after the one in force."
    )


class FaultShown(Shown):
    file = serializers.CharField()
    line = serializers.IntegerField()
    detail = serializers.CharField()


class ExampleShown(Shown):
    name = serializers.CharField()
    operation = serializers.CharField()
    passed = serializers.BooleanField()
    detail = serializers.CharField()
    canonical = serializers.DictField(help_text="What it came to.")


class ProofShown(Shown):
    valid = serializers.BooleanField()
    faults = FaultShown(many=True)
    examples = ExampleShown(many=True)


class DefinitionAsked(Body):
    document = serializers.CharField(trim_whitespace=False)
    examples = serializers.ListField(
        child=serializers.DictField(),
        required=False,
        help_text="Left out: those of the version in force.",
    )


class VersionAsked(DefinitionAsked):
    note = serializers.CharField(max_length=500, required=False, allow_blank=True)


class TrialAsked(Body):
    operation = serializers.CharField(max_length=64)
    params = serializers.DictField(required=False, default=dict)
    against = serializers.ChoiceField(choices=AGAINST, default="example")
    example = serializers.CharField(
        max_length=64, required=False, help_text="Unless said, the operation's first."
    )


class RequestShown(Shown):
    method = serializers.CharField()
    url = serializers.CharField()
    headers = serializers.DictField()
    body = serializers.CharField(allow_null=True)


class ResponseShown(Shown):
    status = serializers.IntegerField()
    body = serializers.CharField()


class TrialShown(Shown):
    request = RequestShown(help_text="As it is sent, but for the secret.")
    response = ResponseShown(help_text="The provider's own words, without our secret.")
    canonical = serializers.DictField(help_text="What it comes to.")
    milliseconds = serializers.IntegerField(allow_null=True)


class ActivatedShown(Shown):
    definition = DefinitionShown()
    routes = serializers.ListField(
        child=serializers.CharField(), help_text="Operations whose routes lead there since."
    )
    left = serializers.ListField(
        child=serializers.CharField(),
        help_text="Operations whose routes staff changed: they add the target themselves.",
    )


class DifferenceShown(Shown):
    lines = serializers.ListField(child=serializers.CharField(), help_text="A unified diff.")


class Definitions(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_definitions",
        tags=["definitions"],
        parameters=[SLUG],
        responses=DefinitionList,
    )
    def get(self, request: Request, slug: str) -> Response:
        """List the versions of a provider's definition that are kept."""
        rows = list(Definition.objects.filter(slug=slug))
        if not rows:
            raise NotFound("There is no definition of such a provider.")
        active = active_of(slug)
        newer = definitions.newer_shipped(active) if active else None
        told = {"data": rows, "newer_shipped": newer and newer.version}
        return Response(DefinitionList(told).data)

    @extend_schema(
        operation_id="internal_definition_create",
        tags=["definitions"],
        parameters=[SLUG],
        request=VersionAsked,
        responses={201: DefinitionShown},
    )
    def post(self, request: Request, slug: str) -> Response:
        """Make a new version. It is not in force until it is activated."""
        require(request, MAKE)
        said = _checked(VersionAsked, request)
        row = definitions.create(
            slug=slug,
            document=said["document"],
            examples=_examples(slug, said),
            note=said.get("note", ""),
            by=who(request)["by"],
        )
        return Response(DefinitionShown(row).data, status=201)


class DefinitionValidation(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_definition_validate_text",
        tags=["definitions"],
        parameters=[SLUG],
        request=DefinitionAsked,
        responses=ProofShown,
    )
    def post(self, request: Request, slug: str) -> Response:
        """Check a text and its examples, and keep nothing."""
        said = _checked(DefinitionAsked, request)
        return Response(shown_proof(prove(slug, said["document"], _examples(slug, said))))


class RollBack(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_definition_roll_back",
        tags=["definitions"],
        parameters=[SLUG],
        request=None,
        responses=ActivatedShown,
    )
    def post(self, request: Request, slug: str) -> Response:
        """Put in force again what was before."""
        require(request, CHANGE)
        return Response(_shown_activated(roll_back(slug=slug, **who(request))))


class DefinitionVersion(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_definition",
        tags=["definitions"],
        parameters=[SLUG, VERSION],
        responses=WholeDefinitionShown,
    )
    def get(self, request: Request, slug: str, version: int) -> Response:
        """Show a version with its document and examples."""
        row: Any = version_of(slug, version)
        row.shown_examples = definitions.examples_of(row)
        return Response(WholeDefinitionShown(row).data)


class DefinitionAction(APIView):
    """What is asked of one version by POST."""

    permission_classes = [Operators]


class DefinitionProof(DefinitionAction):
    @extend_schema(
        operation_id="internal_definition_validate",
        tags=["definitions"],
        parameters=[SLUG, VERSION],
        request=None,
        responses=ProofShown,
    )
    def post(self, request: Request, slug: str, version: int) -> Response:
        """Check a version: its text, and whether its examples come to what they say."""
        return Response(shown_proof(definitions.proof_of(version_of(slug, version))))


class DefinitionTrial(DefinitionAction):
    @extend_schema(
        operation_id="internal_definition_try",
        tags=["definitions"],
        parameters=[SLUG, VERSION],
        request=TrialAsked,
        responses=TrialShown,
    )
    def post(self, request: Request, slug: str, version: int) -> Response:
        """Try a call out: against an example, the sandbox, or, counted, the provider itself."""
        require(request, CHANGE)
        said = _checked(TrialAsked, request)
        trial = try_out(version_of(slug, version), by=who(request)["by"], **said)
        return Response(trial.as_document())


class DefinitionActivation(DefinitionAction):
    @extend_schema(
        operation_id="internal_definition_activate",
        tags=["definitions"],
        parameters=[SLUG, VERSION],
        request=None,
        responses=ActivatedShown,
    )
    def post(self, request: Request, slug: str, version: int) -> Response:
        """Put a version in force, on every worker within a second, if its examples pass."""
        require(request, CHANGE)
        done = activate(definition=version_of(slug, version), **who(request))
        return Response(_shown_activated(done))


class DefinitionDifference(APIView):
    permission_classes = [Operators]

    @extend_schema(
        operation_id="internal_definition_diff",
        tags=["definitions"],
        parameters=[
            SLUG,
            VERSION,
            OpenApiParameter("since", int, description="The version before; that in force."),
        ],
        responses=DifferenceShown,
    )
    def get(self, request: Request, slug: str, version: int) -> Response:
        """Show what a version changed."""
        since = request.query_params.get("since", "")
        old = version_of(slug, int(since)) if since.isdecimal() else active_of(slug)
        if old is None or (since and not since.isdecimal()):
            raise NotFound("Say `since`, the number of the version to compare it with.")
        return Response({"lines": definitions.difference(old, version_of(slug, version))})


def require(request: Request, permission: str) -> None:
    """Of people, staff with that permission only; a key's scope has been looked at. Raises
    Forbidden."""
    identity = identity_of(request)
    if identity.kind == "key":
        return
    user = User.objects.get(public_id=identity.user_public_id)
    if not user.has_perm(permission):
        raise Forbidden(f"This needs the permission {permission}. Ask an administrator.")


def version_of(slug: str, version: int) -> Definition:
    row: Definition = get_object_or_404(Definition, slug=slug, version=min(version, 2**31 - 1))
    return row


def active_of(slug: str) -> Definition | None:
    return Definition.objects.filter(slug=slug, state=Definition.State.ACTIVE).first()


def shown_proof(proof: Proof) -> dict[str, Any]:
    return {
        "valid": proof.holds,
        "faults": [
            {"file": line.file, "line": line.number, "detail": line.words} for line in proof.faults
        ],
        "examples": [
            {
                "name": each.example.name,
                "operation": each.example.operation,
                "passed": not each.fault,
                "detail": each.fault,
                "canonical": each.came.told() if each.came else {},
            }
            for each in proof.results
        ],
    }


def _examples(slug: str, said: dict[str, Any]) -> list[dict[str, Any]]:
    if "examples" in said:
        examples: list[dict[str, Any]] = said["examples"]
        return examples
    active = active_of(slug)
    return definitions.examples_of(active) if active else []


def _checked(body_class: type[Body], request: Request) -> dict[str, Any]:
    body = body_class(data=request.data)
    body.is_valid(raise_exception=True)
    data: dict[str, Any] = body.validated_data
    return data


def _shown_activated(done: Activated) -> Any:
    return ActivatedShown(done).data
