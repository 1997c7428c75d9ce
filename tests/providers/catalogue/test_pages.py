"""The pages of docs/providers/: they say what the catalogue says, all of it, and are current."""

from __future__ import annotations

import pytest

from config.management.commands.provider_docs import FOLDER, written
from providers.catalogue import CatalogueFile
from providers.catalogue.pages import INDEX, pages
from tests.shipped import FILES

PAGES = pages(FILES)


def section(file: CatalogueFile) -> str:
    page = PAGES[f"{file.document['category']}.md"]
    _, _, rest = page.partition(f'<a id="{file.slug}"></a>')
    return rest.partition('<a id="')[0]


def test_they_are_current() -> None:
    there = {path.name: path.read_text("utf-8") for path in written(FOLDER)}
    assert there == PAGES, "run: make provider-docs"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.slug)
def test_a_provider_is_told_whole(file: CatalogueFile) -> None:
    told = section(file)
    document = file.document
    for operation in file.operations:
        assert f"`{operation}`" in told
    assert document["docs_url"] in told
    credential = document.get("credential", {})
    for part in (credential, *credential.get("parts", {}).values()):
        assert part.get("env", "") in told
        assert part.get("signup_url", "") in told
    for limit in document.get("limits", ()):
        assert f"{limit['limit']:,} {limit['metric']} per {limit['window']}" in told
        assert limit["checked_on"] in told
        assert limit["source"] == "recalled" or limit["source"] in told
    for credit in document.get("attribution", ()):
        assert credit["text"] in told and credit.get("licence", "") in told
    for model in file.models:
        assert f"`{model['id']}`" in told


def test_the_index_counts_right() -> None:
    index = PAGES[INDEX]
    assert f"{len(FILES)} providers" in index
    for name in {file.document["category"] for file in FILES}:
        count = sum(file.document["category"] == name for file in FILES)
        assert f"| [{name}]({name}.md) | {count} |" in index


def test_where_a_figure_was_not_read_they_say_so() -> None:
    recalled = next(
        file
        for file in FILES
        if any(each["source"] == "recalled" for each in file.document.get("limits", ()))
    )
    assert "from memory" in section(recalled)
