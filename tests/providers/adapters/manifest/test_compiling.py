"""A manifest's faults: each is found when it is compiled, with its place, and all at once."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.adapters.manifest import Manifest, ManifestError, compile_manifest

RATE = "finance.fx_rate"
GOOD: dict[str, Any] = {
    "schema": 1,
    "slug": "lab",
    "name": "Lab",
    "category": "finance",
    "adapter": "manifest",
    "docs_url": "https://lab.example/docs",
    "base_url": "https://lab.example/v1",
    "auth": {"type": "query", "name": "key"},
    "credential": {"env": "LAB_KEY", "shape": "^[a-z]+$"},
    "verification": {"operation": RATE, "params": {"base": "EUR", "quote": "USD"}},
    "tables": {"t": {"a": 1}},
    "errors": [{"when": {"status": 404}, "as": "not_found", "message": "error.text"}],
    "operations": {
        RATE: {
            "request": {"path": "/{base}", "query": {"to": "{quote}"}},
            "map": {
                "base": {"param": "base"},
                "quote": {"param": "quote"},
                "rate": {"path": "rates", "transform": [{"at_key": "{quote}"}, "decimal"]},
                "as_of": {"path": "t", "transform": "epoch_s"},
            },
            "examples": ["one"],
        }
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with the value at a path (`/` between the steps) put in, or taken out when None."""
    document = copy.deepcopy(GOOD)
    *parents, last = path.split("/")
    node: Any = document
    for step in parents:
        node = node[int(step)] if isinstance(node, list) else node.setdefault(step, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return document


def faults(document: Any) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        compile_manifest(document)
    return [".".join(map(str, fault.place)) for fault in caught.value.faults]


def test_a_good_one_compiles() -> None:
    manifest = compile_manifest(GOOD)
    assert isinstance(manifest, Manifest)
    assert manifest.needs_credential
    assert not compile_manifest(changed("auth/optional", True)).needs_credential


OP = f"operations/{RATE}"


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("slug", "Not A Slug", "slug"),
        ("auth/type", "magic", "auth.type"),
        ("auth/name", None, "auth.name"),
        ("base_url", "ftp://x.example", "base_url"),
        ("base_url", "http://lab.example", "base_url"),
        ("base_url", "https://user@lab.example", "base_url"),
        ("base_url", "https://[lab", "base_url"),
        ("base_url", "https://lab.example:99999", "base_url"),
        ("base_url", "https://lab.example/{host}", "base_url"),
        ("headers", {"authorization": "x"}, "headers.authorization"),
        ("headers", {"x-a": "a\r\nb: c"}, "headers.x-a"),
        ("auth", {"type": "none"}, "credential"),
        ("credential/shape", "(", "credential.shape"),
        ("credential/shape", r"^\p{L}+$", "credential.shape"),
        ("auth", {"type": "bearer", "names": {"a": "A", "b": "B"}}, "auth.type"),
        ("auth", {"type": "query", "names": {"a": "A", "b": "B"}}, "credential.parts"),
        ("auth", {"type": "query", "name": "k", "names": {"a": "A", "b": "B"}}, "auth.name"),
        ("auth", {"type": "query", "names": {"a": "A"}}, "auth.names"),
        ("auth", {"type": "oauth2"}, "auth.token_url"),
        ("auth", {"type": "bearer", "token_url": "https://x.example/t"}, "auth.token_url"),
        ("auth", {"type": "oauth2", "token_url": "http://x.example/t"}, "auth.token_url"),
        ("auth", {"type": "oauth2", "token_url": "https://u:p@x.example/t"}, "auth.token_url"),
        ("auth", {"type": "oauth2", "token_url": "https://x.example/t?a=b"}, "auth.token_url"),
        ("auth", {"type": "oauth2", "token_url": "https://x.example/t"}, "credential.parts"),
        (
            "credential",
            {"parts": {"a": {"env": "LAB_A"}, "b": {"env": "LAB_B"}}},
            "credential.parts",
        ),
        ("credential", {"signup_url": "https://lab.example"}, "credential"),
        ("verification/operation", "finance.quote", "verification.operation"),
        ("verification/params", {"base": "EUR"}, "verification.params"),
        ("errors/0/when", {}, "errors.0.when"),
        ("errors/0/when", {"json": "a["}, "errors.0.when.json"),
        ("errors/0/as", "bad luck", "errors.0.as"),
        ("errors/0/message", "a[", "errors.0.message"),
        (
            "errors/0/retry_after",
            {"path": "a", "transform": "nope"},
            "errors.0.retry_after.transform",
        ),
        (f"{OP}/request/path", "/{base", f"operations.{RATE}.request.path"),
        (f"{OP}/request/path", "/{base}/{date}", f"operations.{RATE}.request.path"),
        (f"{OP}/request/path", "/{bass}", f"operations.{RATE}.request.path"),
        (f"{OP}/request/path", "//evil.example/{base}?", f"operations.{RATE}.request.path"),
        (f"{OP}/request/query", {}, f"operations.{RATE}.request"),
        (f"{OP}/request/prepare", {"base": "nope"}, f"operations.{RATE}.request.prepare.base"),
        (f"{OP}/request/picks", ["bass"], f"operations.{RATE}.request"),
        (f"{OP}/map/rate", None, f"operations.{RATE}.map"),
        (f"{OP}/map/price", "p", f"operations.{RATE}.map.price"),
        (f"{OP}/map/rate", "rates[", f"operations.{RATE}.map.rate"),
        (
            f"{OP}/map/rate",
            {"path": "a", "transform": "nope"},
            f"operations.{RATE}.map.rate.transform",
        ),
        (
            f"{OP}/map/rate",
            {"path": "a", "transform": {"at_key": "{qoute}"}},
            f"operations.{RATE}.map.rate.transform",
        ),
        (
            f"{OP}/map/rate",
            {"path": "a", "transform": {"lookup": "u"}},
            f"operations.{RATE}.map.rate.transform",
        ),
        (f"{OP}/map/rate", {"path": "a", "value": 1}, f"operations.{RATE}.map.rate"),
        (f"{OP}/map/rate", {"param": "bass"}, f"operations.{RATE}.map.rate.param"),
        (f"{OP}/map/rate", {"any": [{"path": "a["}]}, f"operations.{RATE}.map.rate.any.0.path"),
        (f"{OP}/records", "a[", f"operations.{RATE}.records"),
        (f"{OP}/total", "n", f"operations.{RATE}.total"),
        (f"{OP}/incomplete", "skip", f"operations.{RATE}.incomplete"),
        (f"{OP}/not_found_without", "price", f"operations.{RATE}.not_found_without"),
        (
            f"{OP}/errors",
            [{"when": {"header": {"a": "b"}}, "as": "empty"}],
            f"operations.{RATE}.errors.0.when",
        ),
        (f"{OP}/examples", [], f"operations.{RATE}.examples"),
        (f"{OP}/surprise", 1, f"operations.{RATE}.surprise"),
        (
            "operations/finance.tea",
            {"request": {"path": "/"}, "map": {"a": "b"}, "examples": ["x"]},
            "operations.finance.tea",
        ),
        (
            "operations/chat.completions",
            {"request": {"path": "/"}, "map": {"a": "b"}, "examples": ["x"]},
            "operations.chat.completions",
        ),
    ],
)
def test_each_fault_is_found_at_its_place(path: str, value: Any, place: str) -> None:
    assert place in faults(changed(path, value))


PLACES = "geo.geocode"
WEATHER = "weather.current"


def with_operation(name: str, source: dict[str, Any]) -> dict[str, Any]:
    return changed(f"operations/{name}", {"examples": ["x"], **source})


def test_a_list_has_no_single_record_to_miss() -> None:
    source = {
        "request": {"path": "/s", "query": {"q": "{q}"}},
        "map": {"lat": "a", "lon": "b", "label": "c"},
        "not_found_without": "lat",
    }
    place = f"operations.{PLACES}.not_found_without"
    assert faults(with_operation(PLACES, source)) == [place]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"condition.code": "c"}, "map"),
        ({"condition.code": "c", "condition.text": "t", "condition": "w"}, "map.condition.code"),
        ({"condition": "w", "condition.colour": "c"}, "map.condition.colour"),
    ],
)
def test_inner_fields_are_mapped_all_or_as_one(fields: dict[str, str], place: str) -> None:
    source = {
        "request": {"path": "/w", "query": {"q": "{lat},{lon}"}},
        "map": {"temperature_c": "t", "observed_at": "o", **fields},
    }
    assert f"operations.{WEATHER}.{place}" in faults(with_operation(WEATHER, source))


def test_all_faults_are_told_at_once() -> None:
    document = changed(f"{OP}/map/rate", "rates[")
    document["operations"][RATE]["request"]["path"] = "/{"
    document["errors"][0]["when"] = {"json": "("}
    assert len(faults(document)) >= 3


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9900/v1",
        "http://localhost:9900",
        "http://[::1]:9/x",
        "http://10.0.0.7/api",
    ],
)
def test_plain_http_only_inside(url: str) -> None:
    assert compile_manifest(changed("base_url", url)).base_url == url


@pytest.mark.parametrize("document", [None, [], "x", 5, {}, {"schema": 2}])
def test_what_is_no_manifest_at_all(document: Any) -> None:
    faults(document)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("a{}[]|/:.%", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["path", "transform", "value", "json", "x"]), inner, max_size=2
        )
    ),
    max_leaves=5,
)
_PLACES = [
    "base_url", "auth", "credential", "headers", "tables", "errors", "verification", "cache",
    f"{OP}/request", f"{OP}/request/path", f"{OP}/request/query", f"{OP}/request/prepare",
    f"{OP}/map", f"{OP}/map/rate", f"{OP}/records", f"{OP}/errors", OP,
]  # fmt: skip


@given(st.sampled_from(_PLACES), _JSON.filter(lambda value: value is not None))
@settings(max_examples=400, deadline=None)
def test_any_document_compiles_or_is_refused(place: str, value: Any) -> None:
    try:
        compile_manifest(changed(place, value))
    except ManifestError as error:
        assert error.faults
        assert str(error)
