"""Data providers: each answers with its manifest's examples (see catalogue/examples/README.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from providers.adapters.manifest import Manifest
from providers.adapters.manifest.decoding import json_document
from providers.call import Verdict
from providers.catalogue.documents import FOLDER, read_document
from providers.catalogue.examples import Example, Serve, load_examples
from providers.sandbox import tokens
from providers.sandbox.dialects.dialect import TOKEN, Answer, Refused, Request, encoded, is_bad

# The code of a refused credential.
_KEY = "key"


class Asked(NamedTuple):
    """What a request may ask for: a step of an operation ("" is its own request), with what."""

    operation: str
    step: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class DataProvider:
    """One manifest with its examples, in the shape of a dialect."""

    manifest: Manifest
    examples: tuple[Example, ...]
    needs_credential: bool

    @property
    def name(self) -> str:
        return self.manifest.slug

    def operation(self, request: Request) -> str | None:
        grant = self.manifest.auth.grant
        if grant and (request.method, request.path) == ("POST", urlsplit(grant.url).path):
            return TOKEN
        return next((asked.operation for asked in self._matches(request)), None)

    def answer(self, request: Request, operation: str) -> Answer:
        if operation == TOKEN:
            return tokens.answer(request)
        self._authorize(request)
        asked = next(each for each in self._matches(request) if each.operation == operation)
        example = self._best(request, asked)
        if example is None:
            raise Refused(404, f"The sandbox has no example for {operation}.")
        return _answer(example, asked.params)

    def refusal(self, request: Request, refused: Refused, operation: str) -> Answer:
        """An example of that error, of the same operation if there is one; else plain JSON."""
        if operation == TOKEN:
            return tokens.refusal(refused)
        headers = {} if refused.retry_after is None else {"retry-after": str(refused.retry_after)}
        fitting = [example for example in self.examples if _shows(example, refused)]
        fitting.sort(key=lambda example: example.operation != operation)
        if not fitting:
            message = refused.message or f"The provider answers {refused.status}."
            return Answer(operation, encoded({"error": message}), refused.status, headers=headers)
        answer = _answer(fitting[0], {})
        return Answer(
            operation,
            answer.body,
            answer.status,
            answer.content_type,
            {**answer.headers, **headers},
        )

    def named(self, name: str, request: Request, operation: str) -> Answer:
        """The example called `name`. Raises Refused."""
        for example in self.examples:
            if example.name == name:
                asked = (each for each in self._matches(request) if each.operation == operation)
                return _answer(example, next((each.params for each in asked), {}))
        raise Refused(404, f"{self.name} has no example {name!r}.")

    def broken_off(self) -> bytes:
        return b""

    def _matches(self, request: Request) -> Iterator[Asked]:
        url = self._after_base(request)
        if url is None:
            return
        for name, operation in self.manifest.operations.items():
            for step, template in operation.requests:
                if template.link:
                    params = self._linked(Asked(name, step, {}), url)
                else:
                    params = template.recover(request.method, url, request.body)
                if params is not None:
                    yield Asked(name, step, params)

    def _linked(self, asked: Asked, url: str) -> Mapping[str, Any] | None:
        """A link leads only to where an example of the step before it says."""
        there = any(self._pairs(each.url) == self._pairs(url) for each in self._of(asked))
        return {} if there else None

    def _of(self, asked: Asked) -> list[Example]:
        whose = (asked.operation, asked.step)
        return [each for each in self.examples if (each.operation, each.step) == whose]

    def _after_base(self, request: Request) -> str | None:
        base = urlsplit(self.manifest.base_url).path.rstrip("/")
        return request.url.removeprefix(base) if request.url.startswith(base) else None

    def _best(self, request: Request, asked: Asked) -> Example | None:
        """The one of just this request, else the step's default."""
        own, url = self._of(asked), self._pairs(self._after_base(request) or "")
        for example in own:
            is_exact = example.serve is Serve.EXACT and self._pairs(example.url) == url
            if is_exact and _same_body(example, request):
                return example
        return next((example for example in own if example.serve is Serve.DEFAULT), None)

    def _pairs(self, url: str) -> tuple[str, list[tuple[str, str]]]:
        """Path and query for comparison, without the credential."""
        parts = urlsplit(url)
        secrets = self.manifest.auth.query_names
        query = parse_qsl(parts.query, keep_blank_values=True)
        return parts.path, sorted(pair for pair in query if pair[0] not in secrets)

    def _authorize(self, request: Request) -> None:
        secrets = self._secrets(request)
        if any(map(is_bad, secrets)) or (self.needs_credential and not all(secrets)):
            raise Refused(401, "Invalid API key.", code=_KEY)

    def _secrets(self, request: Request) -> list[str]:
        """All that must be there; what is missing is empty."""
        auth = self.manifest.auth
        names = [*auth.names.values()] or [auth.name]
        if auth.type == "query":
            given = dict(parse_qsl(request.query))
            return [given.get(name, "") for name in names]
        if auth.type == "header":
            sent = [request.headers.get(name.lower(), "") for name in names]
            return [value.removeprefix(auth.prefix) for value in sent]
        if auth.grant is not None:
            return [tokens.behind(request.bearer)]
        secret = request.headers.get("authorization", "").partition(" ")[2].strip()
        return [*tokens.user_and_password(request)][:1] if auth.type == "basic" else [secret]


def _same_body(example: Example, request: Request) -> bool:
    if isinstance(example.sent, (dict, list)):
        return request.body == example.sent_bytes or json_document(request.body) == example.sent
    return request.body == (example.sent_bytes or b"")


def _shows(example: Example, refused: Refused) -> bool:
    """Some providers tell a wrong key with a status that is not 401, even with 200."""
    if refused.code == _KEY:
        return example.expect.get("verdict") == Verdict.AUTH
    return example.status == refused.status


@cache
def data_provider(slug: str) -> DataProvider | None:
    """The data provider of that slug, or None. Read once."""
    path = FOLDER / f"{slug}.yaml"
    if not slug.replace("-", "").isalnum() or not path.is_file():
        return None
    file = read_document(path)
    if file.manifest is None:
        return None
    return DataProvider(file.manifest, load_examples(slug), file.needs_credential)


def _answer(example: Example, params: Mapping[str, Any]) -> Answer:
    return Answer(
        example.operation,
        example.body(params),
        example.status,
        example.content_type,
        dict(example.headers),
    )
