"""The same call in curl, Python and JavaScript."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pprint import pformat
from typing import Any, Final
from urllib.parse import urlencode

from providers.operations import Kind, Operation

PLACEHOLDER: Final = "YOUR_TEST_KEY"


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
    return _sending(url, parameters, key, _SOUND if operation.kind is Kind.SPEECH else _JSON)


def openai_sample(base_url: str, key: str) -> str:
    """A chat in Python by OpenAI's SDK."""
    return (
        "from openai import OpenAI  # pip install openai\n\n"
        f"client = OpenAI(base_url={f'{base_url}/api/v1'!r}, api_key={key!r})\n"
        "answer = client.chat.completions.create(\n"
        '    model="fast",\n'
        '    messages=[{"role": "user", "content": "Hello!"}],\n'
        ")\nprint(answer.choices[0].message.content)"
    )


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _reading(url: str, key: str) -> dict[str, str]:
    return {
        "curl": f"curl {shlex.quote(url)} \\\n  -H {shlex.quote(f'Authorization: Bearer {key}')}",
        "Python": (
            "import json\nfrom urllib.request import Request, urlopen\n\n"
            f"url = {url!r}\n"
            f"request = Request(url, headers={{'Authorization': {f'Bearer {key}'!r}}})\n"
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


def _sending(
    url: str, parameters: Mapping[str, Any], key: str, then: Mapping[str, str]
) -> dict[str, str]:
    bearer = f"Bearer {key}"
    body = json.dumps(parameters, ensure_ascii=False, indent=2)
    indented = body.replace("\n", "\n  ")
    return {
        "curl": (
            f"curl {shlex.quote(url)} \\\n  -H {shlex.quote(f'Authorization: {bearer}')} \\\n"
            f"  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}{then['curl']}"
        ),
        "Python": (
            "import json\nfrom urllib.request import Request, urlopen\n\n"
            f"url = {url!r}\n"
            f"body = {pformat(dict(parameters), sort_dicts=False, width=72)}\n"
            f"headers = {{'Authorization': {bearer!r}, 'Content-Type': 'application/json'}}\n"
            f"request = Request(url, json.dumps(body).encode(), headers)\n{then['Python']}"
        ),
        "JavaScript": (
            f"const answer = await fetch({json.dumps(url)}, {{\n"
            '  method: "POST",\n'
            f"  headers: {{ Authorization: {json.dumps(bearer)}, "
            '"Content-Type": "application/json" },\n'
            f"  body: JSON.stringify({indented}),\n}});\n{then['JavaScript']}"
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
            "import requests  # pip install requests\n\n"
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
