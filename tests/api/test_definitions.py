"""/internal/v1/providers/{slug}/definitions, …/verify and …/checks: who may, what they see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from rest_framework.test import APIClient

from api.dashboard import alerts
from providers import snapshot
from providers.definition_models import Check, Definition, Drift
from providers.models import Provider
from tests.factories import ApiKeyFactory, UserFactory
from tests.providers.definitions import DRIFTED, GOOD, Upstream, keyed, rates, replying

pytestmark = pytest.mark.django_db
WHERE = "/internal/v1/providers"
PAIR = {"base": "EUR", "quote": "USD"}


@pytest.fixture
def staff(as_user: Any) -> APIClient:
    user = UserFactory(is_staff=True, is_superuser=True, email="staff@example.test")
    client: APIClient = as_user(user)
    return client


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with replying() as made:
        made.body = GOOD
        yield made


def body(slug: str = "my-rates", **changes: str) -> dict[str, Any]:
    document, examples = rates(slug, **changes)
    return {"document": document, "examples": examples}


def post(client: APIClient, path: str, said: Any = None, status: int = 200) -> Any:
    answer = client.post(f"{WHERE}/my-rates/{path}", said or {}, format="json")
    assert answer.status_code == status, answer.content
    return answer.json()


def got(client: APIClient, path: str, status: int = 200) -> Any:
    answer = client.get(f"{WHERE}/my-rates/{path}")
    assert answer.status_code == status, answer.content
    return answer.json()


def drifts() -> list[alerts.Alert]:
    return [alert for alert in alerts.of_service() if alert.code == "provider_drift"]


READ = ["definitions", "definitions/1", "definitions/1/diff?since=1", "checks"]
WRITE = ["definitions/validate", "definitions/1/validate", "definitions/1/try",
         "definitions/1/activate", "definitions/roll-back", "definitions", "verify"]  # fmt: skip


@pytest.mark.parametrize(
    ("who", "reads", "writes"),
    [
        ("owner", False, False),
        ("*", False, False),
        ("manage:*", False, False),
        ("internal:read", True, False),
        ("internal:write", False, True),
        ("anonymous", False, False),
    ],
)
def test_only_operators(
    who: str, reads: bool, writes: bool, clients: Any, staff: APIClient
) -> None:
    post(staff, "definitions", body(), 201)
    Provider.objects.create(slug="my-rates", adapter="manifest", base_url="https://x.example")
    client = clients(who)
    for path in READ:
        status = client.get(f"{WHERE}/my-rates/{path}").status_code
        assert (status == 200) if reads else status in (401, 403), path
    for path in WRITE:
        said = {**PAIR, "operation": "finance.fx_rate"} if path.endswith("try") else body()
        status = client.post(f"{WHERE}/my-rates/{path}", said, format="json").status_code
        assert (status not in (401, 403)) if writes else status in (401, 403), path


def test_staff_need_the_permission(as_user: Any, staff: APIClient) -> None:
    post(staff, "definitions", body(), 201)
    plain = as_user(UserFactory(is_staff=True))
    assert got(plain, "definitions")["data"][0]["version"] == 1
    post(plain, "definitions/validate", body())
    for path, said in (
        ("definitions", body()),
        ("definitions/1/activate", None),
        ("definitions/1/try", {"operation": "finance.fx_rate"}),
        ("definitions/roll-back", None),
        ("verify", None),
    ):
        assert "permission" in post(plain, path, said, 403)["detail"], path


def test_a_new_provider_from_text_to_route(staff: APIClient) -> None:
    made = post(staff, "definitions", {**body(), "note": "first"}, 201)
    assert (made["version"], made["state"], made["source"]) == (1, "draft", "operator")
    assert (made["by"], made["note"]) == ("staff@example.test", "first")
    proof = post(staff, "definitions/1/validate")
    assert proof["valid"] and [each["name"] for each in proof["examples"]] == [
        "latest", "not-found"
    ]  # fmt: skip
    trial = post(staff, "definitions/1/try", {"operation": "finance.fx_rate"})
    assert trial["request"]["url"] == "https://api.example.com/v1/latest?base=EUR&symbols=USD"
    assert trial["canonical"]["data"]["rate"] == "1.0823"
    done = post(staff, "definitions/1/activate")
    assert done["definition"]["state"] == "active"
    assert "my-rates" in snapshot.load().providers
    assert LogEntry.objects.get().change_message == "Definition: version 1 in force"
    whole = got(staff, "definitions/1")
    assert whole["document"] == body()["document"] and len(whole["examples"]) == 2


def test_faults_are_told_by_line_and_nothing_is_kept(staff: APIClient) -> None:
    wrong = body(path="'rates['")
    line = wrong["document"][: wrong["document"].index("'rates['")].count("\n") + 1
    proof = post(staff, "definitions/validate", wrong)
    assert not proof["valid"]
    assert (proof["faults"][0]["file"], proof["faults"][0]["line"]) == ("my-rates.yaml", line)
    assert not Definition.objects.exists()
    post(staff, "definitions", wrong, 201)
    refused = post(staff, "definitions/1/activate", None, 422)
    assert f"my-rates.yaml:{line}: " in refused["errors"][0]["detail"]
    assert not Provider.objects.filter(slug="my-rates").exists()


def test_versions_differ_and_go_back(staff: APIClient) -> None:
    post(staff, "definitions", body(), 201)
    post(staff, "definitions/1/activate")
    made = post(staff, "definitions", {"document": body(name="Ours")["document"]}, 201)
    assert made["version"] == 2
    assert post(staff, "definitions/2/validate")["valid"], "with the examples of that in force"
    assert "+name: Ours" in " ".join(got(staff, "definitions/2/diff")["lines"])
    assert got(staff, "definitions/2/diff?since=2")["lines"] == []
    got(staff, "definitions/2/diff?since=9", 404)
    got(staff, "definitions/2/diff?since=x", 404)
    post(staff, "definitions/2/activate")
    states = {row["version"]: row["state"] for row in got(staff, "definitions")["data"]}
    assert states == {1: "retired", 2: "active"}
    assert post(staff, "definitions/roll-back")["definition"]["version"] == 1


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"document": ""},
        {"document": "x" * 200_000},
        {"document": "a: 1", "examples": "x"},
        {"document": "a: 1", "examples": [7]},
        {"document": "a: 1", "state": "active"},
        {"document": "a: 1", "note": "x" * 501},
        {"document": "a: 1\u0000"},
    ],
)
def test_what_cannot_be_kept_is_refused(staff: APIClient, said: Any) -> None:
    assert post(staff, "definitions", said, 422)["errors"]
    assert not Definition.objects.exists()


@pytest.mark.parametrize(
    ("path", "status"),
    [("definitions", 404), ("definitions/1", 404), ("definitions/99999999999999999999", 404),
     ("checks", 404)],
)  # fmt: skip
def test_what_is_not_there(staff: APIClient, path: str, status: int) -> None:
    got(staff, path, status)


def test_a_call_that_cannot_be_tried_is_refused(staff: APIClient) -> None:
    post(staff, "definitions", body(), 201)
    for said, words in (
        ({"operation": "finance.quote"}, "serves finance.fx_rate"),
        ({"operation": "finance.fx_rate", "example": "none"}, "latest, not-found"),
        ({"operation": "finance.fx_rate", "against": "sandbox"}, "base"),
    ):
        answer = staff.post(f"{WHERE}/my-rates/definitions/1/try", said, format="json")
        assert answer.status_code in (400, 422) and words in answer.content.decode(), words
    sandbox = {"operation": "finance.fx_rate", "against": "sandbox", "params": PAIR}
    assert post(staff, "definitions/1/try", sandbox)["canonical"]["verdict"] == "ok"


def test_verified_drifting_and_well_again(staff: APIClient, upstream: Upstream) -> None:
    Provider.objects.create(
        slug="my-rates", adapter="manifest", base_url=upstream.url, allow_private_network=True
    )
    post(staff, "definitions", body(base_url=upstream.url), 201)
    post(staff, "definitions/1/activate")
    assert post(staff, "verify")["verdict"] == "ok"
    upstream.body = DRIFTED
    assert post(staff, "verify")["drift"]
    (alert,) = drifts()
    assert (alert.severity, alert.subject) == ("warning", "my-rates")
    assert "finance.fx_rate" in alert.text and alert.since
    upstream.body = GOOD
    post(staff, "verify")
    assert drifts() == []
    told = got(staff, "checks")["data"]
    assert [row["verdict"] for row in told] == ["ok", "bad_payload", "ok"]
    assert {row["by"] for row in told} == {"staff@example.test"}


def test_a_live_trial_is_one_of_few(staff: APIClient, upstream: Upstream, settings: Any) -> None:
    settings.ENV = settings.ENV.model_copy(update={"VERIFY_CALLS_PER_HOUR": 1})
    Provider.objects.create(
        slug="my-rates", adapter="manifest", base_url=upstream.url, allow_private_network=True
    )
    post(staff, "definitions", body(base_url=upstream.url), 201)
    live = {"operation": "finance.fx_rate", "against": "live", "params": PAIR}
    trial = post(staff, "definitions/1/try", live)
    assert trial["canonical"]["data"]["rate"] == "1.0823" and trial["milliseconds"] >= 0
    refused = post(staff, "definitions/1/try", live, 429)
    assert "VERIFY_CALLS_PER_HOUR" in refused["detail"]
    post(staff, "verify", None, 429)
    assert Check.objects.count() == 1 and not Drift.objects.exists()


def test_a_provider_without_a_secret_is_not_verified(staff: APIClient) -> None:
    said = body()
    post(staff, "definitions", {**said, "document": keyed(said["document"])}, 201)
    post(staff, "definitions/1/activate")
    assert "no credential" in post(staff, "verify", None, 400)["detail"]


def test_a_key_is_named_by_its_id(with_key: Any) -> None:
    key = ApiKeyFactory(scopes=["internal:write"])
    made = post(with_key(key), "definitions", body(), 201)
    assert made["by"] == f"key {key.public_id}"
