"""The exact HTTP request of a call: templates filled, each value encoded for where it stands."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from lib.problems import InvalidRequest
from providers import oauth2
from providers.adapter import Unsupported
from providers.adapters.manifest.bodies import Body
from providers.adapters.manifest.templates import Template
from providers.adapters.manifest.transforms import Step, TransformError
from providers.call import Grant, Upstream, UpstreamRequest
from providers.operations.operation import RESERVED
from providers.secret_form import SecretForm

USER_AND_PASSWORD = SecretForm(("user", "password"))

_STEERING = RESERVED - {"cursor"}
_VISIBLE = re.compile(r"[!-~]{1,4000}")
_LEADS_OUT = re.compile(r"(?:^|[/\\])\.{1,2}(?:[/\\]|$)")


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
    """A provider's request for one operation, or for one step of it.

    `prepare` changes parameters before they are sent; `picks` are those that are not sent at
    all because they pick from the answer; `only` has the values of a parameter that the provider
    can be asked for. `link` is the parameter that holds a URL from an earlier answer, which is
    then followed instead of `path`.
    """

    method: str
    path: Template
    query: tuple[tuple[str, Template], ...] = ()
    prepare: Mapping[str, Step] = field(default_factory=dict)
    picks: frozenset[str] = frozenset()
    body: Body | None = None
    only: Mapping[str, frozenset[Any]] = field(default_factory=dict)
    link: str = ""

    @property
    def params(self) -> frozenset[str]:
        """The call's parameters that count: told to the provider, or picking from its answer."""
        told = self.path.params.union(self.picks, *(template.params for _, template in self.query))
        return (
            told
            | ({self.link} if self.link else set())
            | (self.body.params if self.body else set())
        )

    def url(self, params: Mapping[str, Any]) -> str:
        """Path and query. A query parameter whose own parameter is absent is left out.

        Raises InvalidRequest for a value that would lead to another path.
        """
        return self.filled(self.prepared(params))

    def filled(self, prepared: Mapping[str, Any]) -> str:
        path = prepared[self.link] if self.link else self.path.render(prepared, _encoded_segment)
        if path is None:
            raise InvalidRequest(f"Needs {', '.join(sorted(self.path.required))}.")
        filled = ((name, template.render(prepared)) for name, template in self.query)
        return with_query(path, [(name, value) for name, value in filled if value is not None])

    def recover(self, method: str, url: str, body: bytes = b"") -> dict[str, Any] | None:
        """The parameters, mostly as text, of a request that this template may have made; else
        None, as of all that were followed from a link.

        `url` is path and query, after the provider's base URL. Unknown query parameters, such
        as a credential, are passed over.
        """
        if method != self.method or self.link:
            return None
        parts = urlsplit(url)
        told = self.body.recover(body) if self.body else {}
        path = self.path.recover(parts.path)
        found: dict[str, Any] | None = None if path is None or told is None else {**told, **path}
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

    def prepared(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The parameters as they are sent. Raises InvalidRequest for what cannot be."""
        if not self.prepare:
            return params
        present = {
            name: step for name, step in self.prepare.items() if params.get(name) is not None
        }
        try:
            return {
                **params,
                **{name: step(params[name], params) for name, step in present.items()},
            }
        except TransformError as error:
            raise InvalidRequest(f"The provider cannot take a parameter: {error}.") from None


def build(
    template: RequestTemplate, auth: Auth, params: Mapping[str, Any], upstream: Upstream
) -> UpstreamRequest:
    """The request with the credential in it. Raises InvalidRequest."""
    prepared = template.prepared(params)
    url = with_query(template.filled(prepared), auth.query(upstream))
    headers = {"accept": "application/json", **auth.headers(upstream)}
    body = None
    if template.body:
        headers["content-type"] = template.body.content_type
        body = template.body.render(prepared)
    return UpstreamRequest(template.method, upstream.base_url.rstrip("/") + url, headers, body)


def refuse_unsaid(
    told: Collection[str],
    only: Mapping[str, frozenset[Any]],
    params: Mapping[str, Any],
    provider: str,
) -> None:
    """No parameter is dropped in silence. A `limit` is kept by cutting the answer.

    Raises Unsupported for a parameter, or a value of one, that the provider cannot be told.
    """
    for name, value in params.items():
        if value is None or name in _STEERING:
            continue
        if name not in told:
            raise Unsupported(name, f"{provider} cannot be told `{name}` for this operation.")
        if name in only and value not in only[name]:
            known = ", ".join(sorted(map(str, only[name])))
            raise Unsupported(name, f"{provider} takes only {known} for `{name}`.")


def below(base_url: str, url: str) -> str | None:
    """Path and query of a `url` that lies under `base_url`, as they stand after it; None for one
    on another host, scheme or port, one with dots that lead out again, and what is no URL."""
    try:
        base, parts = urlsplit(base_url), urlsplit(url)
        same = (base.scheme, base.hostname, _port(base)) == (
            parts.scheme,
            parts.hostname,
            _port(parts),
        )
    except ValueError:
        return None
    folder = base.path.rstrip("/")
    if not same or "@" in parts.netloc or not _VISIBLE.fullmatch(url):
        return None
    if not parts.path.startswith(f"{folder}/") or _LEADS_OUT.search(unquote(parts.path)):
        return None
    return parts.path.removeprefix(folder) + (f"?{parts.query}" if parts.query else "")


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


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
