"""Several providers' answers made one: nothing is lost, nothing told twice, and it is known whence
each item comes."""

from __future__ import annotations

import statistics
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.operations import Kind, Operation, registry
from providers.operations.merging import Told, consensus, median, merged, parse, spread
from providers.operations.sameness import FORMS, gtin, is_near, isbn, parse_key, url

BOOKS = registry()["books.search"].merge
PLACES = registry()["geo.geocode"].merge
LITERATURE = registry()["medical.literature_search"].merge
QUOTE = registry()["finance.quote"].merge
MERGED = [operation for operation in registry().values() if operation.merge]


def lists(*items_of: list[dict[str, Any]]) -> list[Told]:
    return [Told(f"p{number}", items) for number, items in enumerate(items_of)]


# Few values, so that items often meet by one key and part by another.
ARTICLES = st.lists(
    st.fixed_dictionaries(
        {"title": st.uuids().map(str)},
        optional={
            "doi": st.sampled_from(["10.1/A", "10.1/a", "10.2/b", "10.3/c"]),
            "pmid": st.sampled_from(["1", "2", "3"]),
            "pmcid": st.sampled_from(["PMC1", "PMC2"]),
            "year": st.integers(2000, 2003),
        },
    ),
    max_size=5,
)
SPOTS = st.lists(
    st.fixed_dictionaries(
        {
            "label": st.uuids().map(str),
            "lat": st.sampled_from([0.0, 0.01, 0.02, 59.0, 59.01]),
            "lon": st.sampled_from([-180.0, 180.0, 18.0, 18.02]),
        },
        optional={
            "name": st.sampled_from(["Åbo", "ÅBO", "Turku"]),
            "street": st.just("Storgatan"),
            "house_number": st.sampled_from(["1", "2"]),
        },
    ),
    max_size=5,
)
ANSWERS = [(LITERATURE, "title", st.lists(ARTICLES, max_size=4))]
ANSWERS += [(PLACES, "label", st.lists(SPOTS, max_size=4))]


@pytest.mark.parametrize(("merge", "unique", "answers"), ANSWERS, ids=["articles", "places"])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_nothing_is_lost_or_told_twice(
    merge: Any, unique: str, answers: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    told = lists(*data.draw(answers))
    given_items = [(each.provider, item) for each in told for item in each.data]
    got = merged(merge, told)
    # No doubles: done again with what came out, nothing changes.
    assert merged(merge, [Told("again", got)]) == [{**i, "sources": ["again"]} for i in got]
    # In the order of the first of each, whose fields win.
    names = [item[unique] for _, item in given_items]
    leads = [item[unique] for item in got]
    assert leads == sorted(leads, key=names.index)
    for item in got:
        (lead,) = (given for _, given in given_items if given[unique] == item[unique])
        assert {name: item[name] for name in lead} == lead
    # Every provider that said anything is a source of something, and no other is.
    assert {p for item in got for p in item["sources"]} == {p for p, _ in given_items}
    # What stands alone stays as it is; what went is found under a key in what is left.
    for provider, item in given_items:
        tokens = {token for key in merge.keys for token in key.tokens(item)}
        if not tokens:
            assert {**item, "sources": [provider]} in got


@given(st.lists(ARTICLES, max_size=4))
@settings(max_examples=150, deadline=None)
def test_each_identifier_is_told_once_with_all_who_have_it(answers: list[Any]) -> None:
    told = lists(*answers)
    assert LITERATURE is not None
    got = merged(LITERATURE, told)
    for field, write in (("doi", str.casefold), ("pmid", str), ("pmcid", str)):
        known = [write(item[field]) for item in got if field in item]
        assert len(known) == len(set(known))
    for each in told:
        for item in each.data:
            if "doi" in item:
                homes = [g for g in got if g.get("doi", "").casefold() == item["doi"].casefold()]
                # Two DOIs may be one article by its PMID: then the first one's DOI is shown.
                assert not homes or each.provider in homes[0]["sources"]


def test_what_was_filled_in_may_show_that_two_are_one() -> None:
    keys = [{"code": ["a"]}, {"code": ["b", "c"]}]
    merge = parse({"keys": keys})
    assert merge is not None
    told = lists([{"a": "1", "b": "2"}], [{"a": "1", "c": "3"}], [{"b": "2", "c": "3", "d": "4"}])
    (item,) = merged(merge, told)
    assert item == {"a": "1", "b": "2", "c": "3", "d": "4", "sources": ["p0", "p1", "p2"]}


def test_a_books_numbers_are_joined_and_its_title_is_the_firsts() -> None:
    assert BOOKS is not None
    told = lists(
        [{"title": "Kallocain", "authors": ["Boye"], "isbn13": ["978-0-306-40615-7"]}],
        [{"title": "KALLOCAIN", "authors": ["K. Boye"], "isbn10": ["0306406152"], "pages": 190}],
    )
    assert merged(BOOKS, told) == [
        {
            "title": "Kallocain",
            "authors": ["Boye"],
            "isbn13": ["978-0-306-40615-7"],
            "isbn10": ["0306406152"],
            "pages": 190,
            "sources": ["p0", "p1"],
        }
    ]


def test_what_was_given_is_not_changed() -> None:
    assert BOOKS is not None
    one = {"title": "A", "authors": [], "isbn13": ["9780306406157"]}
    other = {"title": "B", "authors": [], "isbn13": ["9780306406157", "9781861972712"]}
    merged(BOOKS, lists([one], [other]))
    assert one == {"title": "A", "authors": [], "isbn13": ["9780306406157"]}


@pytest.mark.parametrize(
    ("form", "text", "written"),
    [
        (isbn, "0-306-40615-2", "9780306406157"),
        (isbn, "080442957x", "9780804429573"),
        (isbn, "9780306406157", "9780306406157"),
        (isbn, "9780306406158", ""),
        (isbn, "0000000000000", ""),
        (isbn, "٠٣٠٦٤٠٦١٥٢", ""),
        (gtin, "4006381333931", "04006381333931"),
        (gtin, "04006381333931", "04006381333931"),
        (gtin, "73513537", "00000073513537"),
        (gtin, "4006381333932", ""),
        (gtin, "00000000", ""),
        (url, "http://www.Example.com:80/a/?utm_source=x&b=2&a=1#top", "example.com/a?a=1&b=2"),
        (url, "https://example.com/a?a=1&b=2", "example.com/a?a=1&b=2"),
        (url, "https://example.com:8443/a", "example.com:8443/a?"),
        (url, "https://example.com/", ""),
        (url, "https://example.com:99999/a", ""),
        (url, "https://[::1/a", ""),
        (url, "javascript:alert(1)", ""),
        (url, "", ""),
    ],
)
def test_one_written_form(form: Any, text: str, written: str) -> None:
    assert form(text) == written


@given(st.text(max_size=60) | st.text(max_size=20).map("https://e.test/".__add__))
@settings(deadline=None)
def test_no_text_makes_a_form_fail(text: str) -> None:
    for form in FORMS.values():
        assert isinstance(form(text), str)


@pytest.mark.parametrize(
    ("one", "another", "km", "near"),
    [
        ((59.33, 18.07), (59.33, 18.07), 0.0, True),
        ((59.3251172, 18.0710935), (59.33459, 18.06324), 2, True),  # two centres of Stockholm
        ((59.3251172, 18.0710935), (59.8586, 17.6389), 2, False),
        ((0.0, 179.999), (0.0, -179.999), 1, True),
        ((90.0, 0.0), (90.0, 120.0), 0.01, True),
    ],
)
def test_near_is_by_the_distance(
    one: tuple[float, float], another: tuple[float, float], km: float, near: bool
) -> None:
    assert is_near(one, another, km) is near
    assert is_near(another, one, km) is near


def test_places_of_the_same_name_far_apart_stay_two() -> None:
    assert PLACES is not None
    springfield = {"name": "Springfield", "label": "S", "lat": 39.8, "lon": -89.6}
    other = {**springfield, "lat": 42.1, "lon": -72.5}
    assert len(merged(PLACES, lists([springfield, other], [springfield]))) == 2


DECIMALS = st.from_regex(r"-?[0-9]{1,30}(\.[0-9]{1,30})?", fullmatch=True, alphabet="0123456789-.")
SHORT = st.from_regex(r"-?[0-9]{1,12}(\.[0-9]{1,12})?", fullmatch=True, alphabet="0123456789-.")


@given(st.lists(SHORT, min_size=1, max_size=7))
@settings(deadline=None)
def test_median_and_spread_are_exact(values: list[str]) -> None:
    exact = [Fraction(value) for value in values]
    assert Fraction(median(values)) == statistics.median(exact)
    assert Fraction(spread(values)) == max(exact) - min(exact)
    assert Fraction(median(values[::-1])) == statistics.median(exact)


@given(st.lists(DECIMALS, min_size=1, max_size=5))
@settings(deadline=None)
def test_the_longest_decimals_stay_within_the_schema(values: list[str]) -> None:
    quotes = [Told("p", {"symbol": "A", "price": value, "as_of": "x"}) for value in values]
    assert QUOTE is not None
    record, _ = consensus(QUOTE, quotes)
    operation = registry()["finance.quote"]
    assert operation.takes({**record, "as_of": "2026-11-20T00:00:00Z"}), record


def test_only_answers_in_the_same_currency_count_together() -> None:
    assert QUOTE is not None
    told = [
        Told("a", {"symbol": "X", "price": "10", "currency": "GBP", "change": "1"}, "t1"),
        Told("b", {"symbol": "X", "price": "1000", "currency": "GBX"}, "t2"),
        Told("c", {"symbol": "X", "price": "11", "name": "X plc"}, "t3"),
    ]
    record, sources = consensus(QUOTE, told)
    assert record == {
        "symbol": "X",
        "price": "10.5",
        "currency": "GBP",
        "change": "1",
        "name": "X plc",
        "spread": "1",
    }
    assert [source.get("left_out") for source in sources] == [None, "currency", None]


@pytest.mark.parametrize("operation", MERGED, ids=lambda operation: operation.name)
def test_an_operation_merges_by_fields_it_has(operation: Operation) -> None:
    merge, schema = operation.merge, operation.response_schema
    assert merge is not None
    assert operation.kind is Kind.DATA
    assert operation.is_list is bool(merge.keys)
    named = [name for key in merge.keys for name in (*key.fields, *(key.near or ()))]
    for name in (*named, *merge.join, *merge.median, *merge.agree):
        node = schema
        for step in name.split("."):
            assert step in node["properties"], name
            node = node["properties"][step]
    if merge.median:
        assert merge.median[0] in schema["required"]
    assert all(key.near is None or key.km > 0 for key in merge.keys)


@pytest.mark.parametrize(
    "document", [{}, {"keys": [{"code": ["a"]}], "median": ["b"]}, {"keys": [{"soundex": ["a"]}]}]
)
def test_what_is_no_way_to_merge_is_told(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"merge|form"):
        parse(document)


def test_a_key_says_its_form_and_its_fields() -> None:
    key = parse_key({"words": ["name"], "near": ["lat", "lon"], "km": 2})
    assert (key.form, key.fields, key.near, key.km) == ("words", ("name",), ("lat", "lon"), 2)
