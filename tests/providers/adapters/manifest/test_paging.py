"""Pages: whatever a provider's are like, ours hold every record once and then end."""

from __future__ import annotations

import copy
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.problems import InvalidRequest
from providers.adapters.manifest import ManifestAdapter, ManifestError, compile_manifest
from providers.call import Answer, Call, Upstream, Verdict
from providers.operations import registry
from tests.providers.adapters.manifest.test_manifest_adapter import DOCUMENT as PLAIN
from tests.shipped import FILES

UP = Upstream("lab", "https://lab.example/v1")
FIND = Call("geo.geocode", {"q": "x"})
QUERY = {"number": "{page.number}", "offset": "{page.offset}", "cursor": "{page.cursor}"}


def document(page: dict[str, Any], **more: Any) -> dict[str, Any]:
    made = copy.deepcopy(PLAIN)
    query = {"q": "{q}", "at": QUERY[page["by"]]}
    if "size" not in page:
        query["n"] = "{page.size}"
    operation = {
        "request": {"path": "/search", "query": query},
        "page": page,
        "records": "hits",
        "map": {"lat": "lat", "lon": "lon", "label": "name"},
        "examples": ["x"],
        **more,
    }
    made["operations"] = {"geo.geocode": operation}
    return made


def lab(page: dict[str, Any], **more: Any) -> ManifestAdapter:
    return ManifestAdapter(compile_manifest(document(page, **more)))


class Service:
    """A provider with so many places, which pages in its own way."""

    def __init__(self, page: dict[str, Any], count: int) -> None:
        self.page, self.count = page, count
        self.asked: list[dict[str, list[str]]] = []

    def answer(self, url: str) -> bytes:
        asked = parse_qs(urlsplit(url).query)
        self.asked.append(asked)
        size = self.page.get("size") or int(asked["n"][0])
        first = self.page.get("first", 1 if self.page["by"] == "number" else 0)
        at = asked.get("at", ["c0"])[0]
        begin = int(at.removeprefix("c")) - (first if self.page["by"] != "cursor" else 0)
        begin *= size if self.page["by"] == "number" else 1
        end = min(begin + size, self.count)
        hits = [{"lat": 1, "lon": 2, "name": f"place {each}"} for each in range(begin, end)]
        more = f"c{end}" if end < self.count else None
        return orjson.dumps({"hits": hits, "total": self.count, "more": more})


def walked(adapter: ManifestAdapter, service: Service, limits: list[int]) -> list[list[str]]:
    pages: list[list[str]] = []
    cursor = None
    while True:
        params = {"q": "x", "limit": limits[len(pages) % len(limits)]}
        call = Call("geo.geocode", params | ({"cursor": cursor} if cursor else {}))
        body = service.answer(adapter.request(call, UP).url)
        answer = adapter.meter(call, UP).whole(adapter.outcome(200, {}, body), body)
        assert isinstance(answer, Answer)
        assert answer.page
        assert len(answer.data) <= answer.page["limit"] <= 100
        pages.append([item["label"] for item in answer.data])
        cursor = answer.page["next_cursor"]
        assert len(pages) <= service.count + 2
        if cursor is None:
            return pages


WAYS = [
    ({"by": "number"}, {"total": "total"}),
    ({"by": "number", "first": 0, "most": 7}, {}),
    ({"by": "number", "size": 6}, {"total": "total"}),
    ({"by": "number", "size": 6}, {}),
    ({"by": "number", "next": "more"}, {}),
    ({"by": "offset", "most": 9}, {"total": "total"}),
    ({"by": "offset", "first": 1, "most": 9}, {}),
    ({"by": "offset", "size": 4, "next": "more"}, {}),
    ({"by": "cursor", "next": "more", "most": 8}, {}),
    ({"by": "cursor", "next": "more", "size": 5}, {"total": "total"}),
]


@pytest.mark.parametrize(("page", "more"), WAYS)
@given(st.integers(0, 40), st.lists(st.integers(1, 15), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_all_pages_together_are_the_whole_once(
    page: dict[str, Any], more: dict[str, Any], count: int, limits: list[int]
) -> None:
    service = Service(page, count)
    pages = walked(lab(page, **more), service, limits)
    assert [name for found in pages for name in found] == [f"place {n}" for n in range(count)]


def test_no_page_is_larger_than_the_provider_gives() -> None:
    adapter = lab({"by": "number", "most": 7})
    url = adapter.request(Call("geo.geocode", {"q": "x", "limit": 50}), UP).url
    assert url.endswith("?q=x&at=1&n=7")


def test_a_first_page_tells_no_cursor() -> None:
    adapter = lab({"by": "cursor", "next": "more"})
    assert adapter.request(Call("geo.geocode", {"q": "x"}), UP).url.endswith("?q=x&n=10")


def test_a_first_page_with_all_there_is_has_none_behind_it() -> None:
    adapter = lab({"by": "cursor", "next": "more"}, total="total")
    body = Service({"by": "cursor"}, 3).answer("https://lab.example/v1/search?n=10")
    answer = adapter.meter(FIND, UP).whole(adapter.outcome(200, {}, body), body)
    assert isinstance(answer, Answer)
    assert answer.page == {"total": 3, "limit": 10, "next_cursor": None}


@pytest.mark.parametrize("more", ["c1", 1])
def test_a_cursor_that_leads_to_itself_is_the_end(more: str | int) -> None:
    adapter = lab({"by": "cursor", "next": "more"})
    call = Call("geo.geocode", {"q": "x", "cursor": orjson.dumps([str(more), 0, 10]).decode()})
    body = orjson.dumps({"hits": [{"lat": 1, "lon": 2, "name": "x"}], "more": more})
    answer = adapter.meter(call, UP).whole(adapter.outcome(200, {}, body), body)
    assert isinstance(answer, Answer)
    assert answer.page == {"total": None, "limit": 10, "next_cursor": None}


ALL_AT_ONCE = {
    # They have no pages, or only for those who pay, or tell the next one by an address.
    "api-football: sports.team_search",
    "edamam: nutrition.recipe_search",
    "finnhub: finance.symbol_search",
    "gnews: news.headlines",
    "gnews: news.search",
    "nyt: news.headlines",
    "opencage: geo.geocode",
    "remotive: jobs.search",
    # What is told of them is not what was found, so that places in it would not fit.
    "met-museum: images.art_search",
    "mychem: medical.drug_lookup",
}


def test_every_shipped_list_with_a_total_has_pages() -> None:
    found = {
        f"{file.slug}: {name}"
        for file in FILES
        for name, plan in file.document.get("operations", {}).items()
        if "total" in plan and "page" not in plan and not registry()[name].whole
    }
    assert found == ALL_AT_ONCE


def test_the_second_page_of_a_shipped_provider() -> None:
    file = next(each for each in FILES if each.slug == "spotify")
    adapter = ManifestAdapter(compile_manifest(file.document))
    track = {"id": "x", "name": "Blue", "artists": [{"name": "M"}], "album": {"images": []}}
    body = orjson.dumps({"tracks": {"items": [track] * 10, "total": 25}})
    first = Call("music.search", {"q": "blue", "limit": 50})
    answer = adapter.meter(first, UP).whole(adapter.outcome(200, {}, body), body)
    assert isinstance(answer, Answer)
    assert answer.page
    second = Call("music.search", {"q": "blue", "cursor": answer.page["next_cursor"]})
    assert adapter.request(second, UP).url.endswith("&limit=10&offset=10")


@pytest.mark.parametrize(
    "cursor", ["", "x", "[]", "5", '["a",0,10]', "[0,0]", '[0,"a",1]', "[null,0,1]"]
)
def test_a_position_of_an_earlier_manifest_is_refused(cursor: str) -> None:
    call = Call("geo.geocode", {"q": "x", "cursor": cursor})
    with pytest.raises(InvalidRequest, match="Begin again"):
        lab({"by": "offset"}).request(call, UP)


@pytest.mark.parametrize("more", [{"a": 1}, ["c"], True, "x" * 1001])
def test_a_next_cursor_that_is_none_is_a_bad_payload(more: Any) -> None:
    from providers.adapter import StreamFault

    adapter = lab({"by": "cursor", "next": "more"})
    body = orjson.dumps({"hits": [{"lat": 1, "lon": 2, "name": "x"}], "more": more})
    with pytest.raises(StreamFault) as caught:
        adapter.meter(Call("geo.geocode", {"q": "x"}), UP).whole(
            adapter.outcome(200, {}, body), b""
        )
    assert caught.value.outcome.verdict is Verdict.BAD_PAYLOAD


@pytest.mark.parametrize(
    ("page", "query", "words"),
    [
        ({"by": "cursor"}, None, "Needs `next`"),
        ({"by": "number"}, {"q": "{q}", "n": "{page.size}"}, "{page.number}"),
        ({"by": "number"}, {"q": "{q}", "at": "{page.number}"}, "or say `size`"),
        ({"by": "number"}, {"q": "{q}", "at": "{page.offset}"}, "must say how"),
        ({"by": "leaps"}, None, "number, offset or cursor"),
    ],
)
def test_a_page_that_cannot_be_asked_for_is_a_fault(page: Any, query: Any, words: str) -> None:
    made = document({**page, "by": page["by"] if page["by"] in QUERY else "number"})
    made["operations"]["geo.geocode"]["page"] = page
    if query:
        made["operations"]["geo.geocode"]["request"]["query"] = query
    with pytest.raises(ManifestError, match=words):
        compile_manifest(made)
