"""The catalogue as pages to read: an index, and one page for each category. Made from the files, so
that neither says what the other does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from providers.catalogue.documents import CatalogueFile
from providers.operations import Operation, registry

MARK: Final = "<!-- Written by `manage.py provider_docs`; a test keeps it true. -->"
INDEX: Final = "README.md"
_RECALLED = "recalled"
_SPANS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def pages(files: Iterable[CatalogueFile]) -> dict[str, str]:
    """Every page's text by its file's name."""
    ordered = sorted(files, key=lambda file: (_category(file), file.slug))
    by_category = {name: list(some) for name, some in groupby(ordered, _category)}
    made = {f"{name}.md": _page(name, some) for name, some in by_category.items()}
    return {INDEX: _index(by_category), **made}


def _category(file: CatalogueFile) -> str:
    return str(file.document["category"])


def _text(blocks: Iterable[str]) -> str:
    return "\n\n".join((MARK, *blocks)) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _index(by_category: Mapping[str, Sequence[CatalogueFile]]) -> str:
    everyone = [file for files in by_category.values() for file in files]
    keyless = sum(not file.needs_credential for file in everyone)
    return _text(
        [
            "# Providers",
            f"{len(everyone)} providers serve {len(registry())} operations; {keyless} of them need "
            "no key. To add one: [writing a manifest](writing-a-manifest.md).",
            "What real answers of theirs come to: [recordings](recordings.md).",
            _table(
                ("category", "providers", "without a key"),
                (_category_row(name, files) for name, files in by_category.items()),
            ),
            "## Operations",
            _table(
                ("operation", "what it gives", "providers", "without a key"),
                (_operation_row(each, everyone) for each in registry().values()),
            ),
        ]
    )


def _category_row(name: str, files: Sequence[CatalogueFile]) -> Sequence[object]:
    keyless = sum(not file.needs_credential for file in files)
    return f"[{name}]({name}.md)", len(files), keyless


def _operation_row(operation: Operation, files: Sequence[CatalogueFile]) -> Sequence[object]:
    serving = [file for file in files if operation.name in file.operations]
    keyless = sum(not file.needs_credential for file in serving)
    return f"`{operation.name}`", operation.summary, len(serving), keyless


def _page(category: str, files: Sequence[CatalogueFile]) -> str:
    summary = _table(
        ("provider", "operations", "key"),
        ((_link(file), _operations(file), _key_in_short(file)) for file in files),
    )
    sections = (block for file in files for block in _section(file))
    return _text([f"# {_title(category)}", f"[All categories]({INDEX})", summary, *sections])


def _title(category: str) -> str:
    return "AI" if category == "ai" else category.capitalize()


def _link(file: CatalogueFile) -> str:
    return f"[{file.document['name']}](#{file.slug})"


def _operations(file: CatalogueFile) -> str:
    return ", ".join(f"`{name}`" for name in sorted(file.operations))


def _key_in_short(file: CatalogueFile) -> str:
    if file.needs_credential:
        return "needed"
    return "optional" if "credential" in file.document else "none"


def _section(file: CatalogueFile) -> Iterator[str]:
    document = file.document
    yield f'<a id="{file.slug}"></a>\n## {document["name"]}'
    yield "\n".join(f"- {line}" for line in _facts(file))
    if file.models:
        head = ("model", "operation", "window", "output", "USD per million tokens in / out", "can")
        yield _table(head, map(_model_row, file.models))


def _facts(file: CatalogueFile) -> Iterator[str]:
    document = file.document
    yield f"Slug: `{file.slug}`; [its documentation]({document['docs_url']})"
    yield f"Operations: {_operations(file)}"
    yield f"Key: {_key(file)}"
    yield f"Limits: {'; '.join(map(_limit, document.get('limits', ()))) or 'none known'}"
    if prices := document.get("prices"):
        yield f"Prices: {_source(prices)}"
    if file.manifest:
        yield f"Attribution: {'; '.join(map(_credit, document.get('attribution', ()))) or 'none'}"
        yield f"Answers: {_retention(document.get('cache', {}))}"
    if not file.enabled:
        yield "Off until staff switch it on"
    if note := document.get("note"):
        yield f"Note: {' '.join(note.split())}"


def _key(file: CatalogueFile) -> str:
    credential = file.document.get("credential")
    if not credential:
        return "none needed"
    names = _environment(credential)
    where = f" ([sign up]({credential['signup_url']}))" if "signup_url" in credential else ""
    return f"{_key_in_short(file)}, {', '.join(names)}{where}"


def _environment(credential: Mapping[str, Any]) -> list[str]:
    if "parts" not in credential:
        return [f"`{credential['env']}`"]
    return [
        f"`{part['env']}`" + (" (optional)" if part.get("optional") else "")
        for part in credential["parts"].values()
    ]


def _limit(limit: Mapping[str, Any]) -> str:
    whose = f" for each {limit['scope']}" if "scope" in limit else ""
    plan = f", plan {limit['plan']}" if "plan" in limit else ""
    amount = f"{limit['limit']:,} {limit['metric']} per {limit['window']}"
    return f"{amount}{whose}{plan} ({_source(limit)})"


def _source(told: Mapping[str, Any]) -> str:
    """Where a figure was read and when; one that was recalled was read nowhere."""
    source, day = told["source"], told["checked_on"]
    if source == _RECALLED:
        return f"from memory, {day}"
    return f"[{day}]({source})" if source.startswith("https://") else f"{source}, {day}"


def _credit(credit: Mapping[str, Any]) -> str:
    text = f"[{credit['text']}]({credit['url']})" if "url" in credit else credit["text"]
    return text + (f", {credit['licence']}" if "licence" in credit else "")


def _retention(cache: Mapping[str, Any]) -> str:
    fresh = f"fresh for {_span(cache['ttl'])}" if "ttl" in cache else "fresh as the operation says"
    most = cache.get("max_retention")
    if most is None:
        return f"{fresh}; no bound on keeping them is known"
    return f"{fresh}; " + (f"kept {_span(most)} at most" if most else "never kept")


def _span(seconds: int) -> str:
    for size, name in _SPANS:
        if seconds and seconds % size == 0:
            count = seconds // size
            return f"{count} {name}" + ("s" if count > 1 else "")
    return "0 seconds"


def _model_row(model: Mapping[str, Any]) -> Sequence[object]:
    sizes = [f"{model[name]:,}" if name in model else "" for name in ("context", "max_output")]
    can = ", ".join(model["capabilities"])
    return f"`{model['id']}`", f"`{model['operation']}`", *sizes, _price(model), can


def _price(model: Mapping[str, Any]) -> str:
    """In US dollars: what a million tokens cost in and out, or a thousand units."""
    if "usd_per_thousand_units" in model:
        return f"{model['usd_per_thousand_units']} per thousand units"
    if "output_usd_per_million" not in model:
        return "unknown"
    return f"{model['input_usd_per_million']} / {model['output_usd_per_million']}"
