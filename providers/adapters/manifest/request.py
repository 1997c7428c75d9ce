"""The exact HTTP request of a call: templates filled, each value encoded for where it stands."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from lib.problems import InvalidRequest
from providers import oauth2
from providers.adapter import Unsupported
from providers.adapters.manifest.templates import Template
from providers.adapters.manifest.transforms import Step, TransformError
from providers.call import Call, Grant, Upstream, UpstreamRequest
from providers.operations.operation import RESERVED
from providers.secret_form import SecretForm

USER_AND_PASSWORD = SecretForm(("user", "password"))


@dataclass(frozen=True, slots=True)
class Auth:
    """How the secret is carried: `none`, `header`, `query`, `bearer`, `basic` or `oauth2`.

    A secret of several parts goes where `names` says, part by part.
    """

    type: str = "none"
    name: str = ""
    prefix: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    grant: Grant | None = None

    @property
    def secret_form(self) -> SecretForm:
        if self.grant is not None:
            return oauth2.FORM
        if self.type == "basic":
            return USER_AND_PASSWORD
        return SecretForm(tuple(self.names), whole=not self.names)

    @property
    def query_names(self) -> frozenset[str]:
        """The query parameters that hold a secret."""
        return (
            frozenset(self.names.values() or [self.name]) if self.type == "query" else frozenset()
        )

    def headers(self, upstream: Upstream) -> dict[str, str]:
        if upstream.secret is None:
            return {}
        match self.type:
            case "header":
                pairs = self._pairs(upstream, upstream.secret)
                return {name.lower(): self.prefix + value for name, value in pairs}
            case "bearer":
                return {"authorization": f"Bearer {upstream.secret}"}
            case "basic":
                pair = _user_and_password(upstream.parts, upstream.secret)
                return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
            case "oauth2":
                return {"authorization": f"Bearer {upstream.token}"}
        return {}

    def query(self, upstream: Upstream) -> list[tuple[str, str]]:
        is_meant = self.type == "query" and upstream.secret is not None
        return self._pairs(upstream, upstream.secret or "") if is_meant else []

    def _pairs(self, upstream: Upstream, secret: str) -> list[tuple[str, str]]:
        if not self.names:
            return [(self.name, secret)]
        return [(name, upstream.parts.get(part, "")) for part, name in self.names.items()]


def _user_and_password(parts: Mapping[str, str], secret: str) -> str:
    """RFC 7617 §2: a key without a colon is a user without a password."""
    if parts:
        return f"{parts['user']}:{parts['password']}"
    return secret if ":" in secret else f"{secret}:"


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """A provider's request for one operation.

    `prepare` changes parameters before they are sent; `picks` are those that are not sent at
    all because they pick from the answer.
    """

    method: str
    path: Template
    query: tuple[tuple[str, Template], ...] = ()
    prepare: Mapping[str, Step] = field(default_factory=dict)
    picks: frozenset[str] = frozenset()

    @property
    def params(self) -> frozenset[str]:
        """The call's parameters that count: told to the provider, or picking from its answer."""
        return self.path.params.union(self.picks, *(template.params for _, template in self.query))

    def url(self, params: Mapping[str, Any]) -> str:
        """Path and query. A query parameter whose own parameter is absent is left out.

        Raises InvalidRequest for a value that would lead to another path.
        """
        prepared = {**params, **self._prepared(params)}
        path = self.path.render(prepared, _encoded_segment)
        if path is None:
            raise InvalidRequest(f"Needs {', '.join(sorted(self.path.required))}.")
        filled = ((name, template.render(prepared)) for name, template in self.query)
        return with_query(path, [(name, value) for name, value in filled if value is not None])

    def recover(self, method: str, url: str) -> dict[str, str] | None:
        """The parameters, as text, of a request that this template may have made; else None.

        `url` is path and query, after the provider's base URL. Unknown query parameters, such
        as a credential, are passed over.
        """
        parts = urlsplit(url)
        found = self.path.recover(parts.path) if method == self.method else None
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name, template in self.query:
            if found is None:
                return None
            if name in given:
                params = template.recover(given[name].replace("%", "%25"))
                found = None if params is None else {**params, **found}
            elif not template.params:
                return None
        return found

    def _prepared(self, params: Mapping[str, Any]) -> dict[str, Any]:
        present = {
            name: step for name, step in self.prepare.items() if params.get(name) is not None
        }
        try:
            return {name: step(params[name], params) for name, step in present.items()}
        except TransformError as error:
            raise InvalidRequest(f"The provider cannot take a parameter: {error}.") from None


def build(template: RequestTemplate, auth: Auth, call: Call, upstream: Upstream) -> UpstreamRequest:
    """The request with the credential in it.

    Raises Unsupported for a parameter that the provider cannot be told.
    """
    refuse_unsaid(template, call.params, upstream.provider)
    url = with_query(template.url(call.params), auth.query(upstream))
    return UpstreamRequest(
        method=template.method,
        url=upstream.base_url.rstrip("/") + url,
        headers={"accept": "application/json", **auth.headers(upstream)},
    )


def refuse_unsaid(template: RequestTemplate, params: Mapping[str, Any], provider: str) -> None:
    """No parameter is dropped in silence. A `limit` is kept by cutting the answer."""
    steering = RESERVED - {"cursor"}
    for name, value in params.items():
        if value is not None and name not in steering and name not in template.params:
            raise Unsupported(name, f"{provider} cannot be told `{name}` for this operation.")


def with_query(url: str, pairs: Iterable[tuple[str, str]]) -> str:
    """`url` with the pairs added, percent-encoded."""
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    return url + ("&" if "?" in url else "?") * bool(query) + query


def _encoded_segment(value: str) -> str:
    """One path segment or a part of one. Dots alone, or nothing, would change the path."""
    if not value.strip("."):
        raise InvalidRequest(
            "A parameter that becomes part of a path cannot be empty or only dots."
        )
    return quote(value, safe="")
