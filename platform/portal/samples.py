"""The same call in curl, Python and JavaScript."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from providers.operations import Operation

PLACEHOLDER: Final = "YOUR_TEST_KEY"
CHAT: Final = {"model": "fast", "messages": [{"role": "user", "content": "Hello!"}]}
EMBEDDINGS: Final = {"model": "text-embedding-3-small", "input": "Hello!"}
_BODIES: Final[Mapping[str, Any]] = {"chat.completions": CHAT, "embeddings": EMBEDDINGS}


def example_of(operation: Operation) -> dict[str, Any]:
    """Parameters with which the operation answers: the schema's own examples."""
    if operation.name in _BODIES:
        return dict(_BODIES[operation.name])
    schema = operation.request_schema
    required = schema.get("required", ())
    properties = schema["properties"]
    return {name: _example(properties[name]) for name in required if name in properties}


def _example(schema: Mapping[str, Any]) -> Any:
    for source in ("examples", "enum"):
        if schema.get(source):
            return schema[source][0]
    return schema.get("default", schema.get("minimum", "…"))


def samples(
    operation: Operation, parameters: Mapping[str, Any], base_url: str, key: str
) -> dict[str, str]:
    """Each ready to be pasted. `base_url` is the service's own, without a last slash."""
    url = f"{base_url}{operation.path}"
    if operation.method == "GET":
        query = urlencode({name: _text(value) for name, value in parameters.items()})
        return _reading(f"{url}?{query}" if query else url, key)
    return _sending(url, json.dumps(parameters, ensure_ascii=False, indent=2), key)


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _reading(url: str, key: str) -> dict[str, str]:
    return {
        "curl": f"curl {shlex.quote(url)} \\\n  -H {shlex.quote(f'Authorization: Bearer {key}')}",
        "Python": (
            "import json\nfrom urllib.request import Request, urlopen\n\n"
            f"request = Request({url!r}, headers={{'Authorization': {f'Bearer {key}'!r}}})\n"
            "print(json.load(urlopen(request)))"
        ),
        "JavaScript": (
            f"const answer = await fetch({json.dumps(url)}, {{\n"
            f"  headers: {{ Authorization: {json.dumps(f'Bearer {key}')} }},\n"
            "});\nconsole.log(await answer.json());"
        ),
    }


def _sending(url: str, body: str, key: str) -> dict[str, str]:
    bearer = f"Bearer {key}"
    return {
        "curl": (
            f"curl {shlex.quote(url)} \\\n  -H {shlex.quote(f'Authorization: {bearer}')} \\\n"
            f"  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"
        ),
        "Python": (
            "import json\nfrom urllib.request import Request, urlopen\n\n"
            f"body = json.loads({body!r})\n"
            f"headers = {{'Authorization': {bearer!r}, 'Content-Type': 'application/json'}}\n"
            f"request = Request({url!r}, json.dumps(body).encode(), headers)\n"
            "print(json.load(urlopen(request)))"
        ),
        "JavaScript": (
            f"const answer = await fetch({json.dumps(url)}, {{\n"
            '  method: "POST",\n'
            f"  headers: {{ Authorization: {json.dumps(bearer)}, "
            '"Content-Type": "application/json" },\n'
            f"  body: JSON.stringify({body}),\n}});\nconsole.log(await answer.json());"
        ),
    }
