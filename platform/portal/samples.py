"""The same call in curl, Python and JavaScript."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from providers.operations import Kind, Operation

PLACEHOLDER: Final = "YOUR_TEST_KEY"
CHAT: Final = {"model": "fast", "messages": [{"role": "user", "content": "Hello!"}]}
EMBEDDINGS: Final = {"model": "text-embedding-3-small", "input": "Hello!"}
RECORDING: Final = "recording.mp3"
_BODIES: Final[Mapping[str, Any]] = {
    "chat.completions": CHAT,
    "embeddings": EMBEDDINGS,
    "rerank": {
        "model": "rerank-v3.5",
        "query": "What is the capital of France?",
        "documents": ["Berlin is in Germany.", "Paris is the capital of France."],
    },
    "moderations": {"input": "Hello!"},
    "image.generations": {"model": "gpt-image-1", "prompt": "A switchboard, in watercolours"},
    "audio.speech": {"model": "tts-1", "voice": "alloy", "input": "Hello!"},
    "audio.transcriptions": {"model": "whisper-1", "file": RECORDING},
}


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
    if operation.kind is Kind.TRANSCRIPTION:
        return _uploading(url, parameters, key)
    body = json.dumps(parameters, ensure_ascii=False, indent=2)
    return _sending(url, body, key, _SOUND if operation.kind is Kind.SPEECH else _JSON)


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


# What becomes of an answer: the end of each language's code.
_JSON: Final = {
    "curl": "",
    "Python": "print(json.load(urlopen(request)))",
    "JavaScript": "console.log(await answer.json());",
}
_SOUND: Final = {
    "curl": " \\\n  --output speech.mp3",
    "Python": 'with open("speech.mp3", "wb") as file:\n    file.write(urlopen(request).read())',
    "JavaScript": "const sound = await answer.blob();",
}


def _sending(url: str, body: str, key: str, then: Mapping[str, str]) -> dict[str, str]:
    bearer = f"Bearer {key}"
    return {
        "curl": (
            f"curl {shlex.quote(url)} \\\n  -H {shlex.quote(f'Authorization: {bearer}')} \\\n"
            f"  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}{then['curl']}"
        ),
        "Python": (
            "import json\nfrom urllib.request import Request, urlopen\n\n"
            f"body = json.loads({body!r})\n"
            f"headers = {{'Authorization': {bearer!r}, 'Content-Type': 'application/json'}}\n"
            f"request = Request({url!r}, json.dumps(body).encode(), headers)\n{then['Python']}"
        ),
        "JavaScript": (
            f"const answer = await fetch({json.dumps(url)}, {{\n"
            '  method: "POST",\n'
            f"  headers: {{ Authorization: {json.dumps(bearer)}, "
            '"Content-Type": "application/json" },\n'
            f"  body: JSON.stringify({body}),\n}});\n{then['JavaScript']}"
        ),
    }


def _uploading(url: str, parameters: Mapping[str, Any], key: str) -> dict[str, str]:
    """A form with a file."""
    bearer, name = f"Bearer {key}", parameters["file"]
    fields = {each: _text(value) for each, value in parameters.items() if each != "file"}
    given = [f"-F {shlex.quote(f'{each}={value}')}" for each, value in fields.items()]
    form = " ".join([*given, f"-F {shlex.quote(f'file=@{name}')}"])
    appended = [f"form.append({json.dumps(n)}, {json.dumps(v)});\n" for n, v in fields.items()]
    return {
        "curl": (
            f"curl {shlex.quote(url)} \\\n  -H {shlex.quote(f'Authorization: {bearer}')} \\\n"
            f"  {form}"
        ),
        "Python": (
            "import requests\n\n"
            f"with open({name!r}, 'rb') as file:\n"
            "    answer = requests.post(\n"
            f"        {url!r},\n"
            f"        headers={{'Authorization': {bearer!r}}},\n"
            f"        data={fields!r},\n"
            "        files={'file': file},\n"
            "    )\n"
            "print(answer.json())"
        ),
        "JavaScript": (
            'import { openAsBlob } from "node:fs";\n\n'
            "const form = new FormData();\n"
            f"{''.join(appended)}"
            f'form.append("file", await openAsBlob({json.dumps(name)}), {json.dumps(name)});\n'
            f"const answer = await fetch({json.dumps(url)}, {{\n"
            '  method: "POST",\n'
            f"  headers: {{ Authorization: {json.dumps(bearer)} }},\n"
            "  body: form,\n});\nconsole.log(await answer.json());"
        ),
    }
