"""How a caller asks for what a recording answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from lib.multipart import Part, encode
from lib.problems import InvalidRequest
from providers.adapters.manifest import Manifest
from providers.adapters.manifest.templates import as_text
from providers.catalogue import Example, load_examples
from providers.catalogue.examples import Serve
from providers.operations import registry
from providers.operations.query import parse_query

if TYPE_CHECKING:
    from tests.gateway.unit.recordings import Recording

HELLO = [{"role": "user", "content": "hello"}]
FORM = encode("xyz", [Part("model", b"m"), Part("file", bytes(4000), "a.wav", "audio/wav")])


class Asked(NamedTuple):
    """`path` with its query; a `body` that is no bytes goes as JSON."""

    path: str
    body: Any = None
    headers: Mapping[str, str] = {}


def request_for(recording: Recording) -> Asked:
    operation = registry()[recording.operation]
    if operation.name == "audio.transcriptions":
        return Asked(operation.path, FORM[1], {"content-type": FORM[0]})
    if not recording.file.manifest:
        return Asked(operation.path, {"model": "m", **_said(recording)})
    params = _params(recording, recording.file.manifest)
    if operation.method == "POST":
        return Asked(operation.path, params)
    query = urlencode({name: as_text(value) for name, value in params.items()})
    return Asked(f"{operation.path}?{query}")


def _said(recording: Recording) -> dict[str, Any]:
    """As many texts as the answer is of, those included that it leaves out."""
    answers = _answers(recording.document["response"]["body"])
    places = [each.get("index", 0) for each in answers if isinstance(each, dict)]
    count = max(len(answers), *places, 0) + 1 if recording.operation == "rerank" else len(answers)
    match recording.operation:
        case "chat.completions":
            return {"messages": HELLO} | ({"stream": True} if recording.is_stream else {})
        case "embeddings":
            return {"input": ["x"] * count}
        case "rerank":
            return {"query": "x", "documents": ["x"] * count}
        case "moderations":
            return {"input": "x"}
    return {"prompt": "x"}


def _answers(body: Any) -> list[Any]:
    if not isinstance(body, dict):
        return []
    found = body.get("data") or body.get("embeddings") or body.get("results") or [None]
    return list(found.get("float", [None]) if isinstance(found, dict) else found)


def _params(recording: Recording, manifest: Manifest) -> dict[str, Any]:
    """What was asked: as the recorded request tells, else the example's."""
    told = _told(recording, manifest)
    return told or dict(default_example(load_examples(recording.at), recording.operation).params)


def _told(recording: Recording, manifest: Manifest) -> dict[str, Any]:
    request, operation = recording.document["request"], registry()[recording.operation]
    url = request["url"] if request else ""
    if not url.startswith(manifest.base_url) or request["method"] != "GET":
        return {}
    after = url.removeprefix(manifest.base_url)
    found = manifest.operations[recording.operation].request.recover("GET", after) or {}
    pairs = [(name, str(value)) for name, value in found.items() if "." not in name]
    try:
        params = parse_query(operation, pairs)
    except InvalidRequest:
        return {}
    return params if operation.request_validator.is_valid(params) else {}


def default_example(examples: tuple[Example, ...], operation: str, step: str = "") -> Example:
    return next(
        each
        for each in examples
        if (each.operation, each.step, each.serve) == (operation, step, Serve.DEFAULT)
    )
