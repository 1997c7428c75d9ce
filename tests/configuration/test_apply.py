"""`manage.py apply`: what the file says, all or nothing, and the same again changes nothing."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from billing.models import Price
from billing.services import prices_in_force
from lib.models import Revision
from providers import snapshot
from providers.models import Credential, Model, Provider, Route, Target
from providers.prices import Prices
from tenants import keys
from tenants.limits import DEFAULT_RATE_LIMITS
from tenants.models import ApiKey, HousePolicy, Plan, Project, Tenant

pytestmark = pytest.mark.django_db
EXAMPLE = Path(__file__).parents[2] / "docs/examples/patchbay.yaml"
SECRET = "sk-lab-0123456789abcdef"
LAB = "providers: [{slug: lab, adapter: openai, base_url: 'https://lab.example.com/v1'}]\n"

MODEL = LAB[:-3] + ", models: [{id: m}]}]\n"


@pytest.fixture(autouse=True)
def lab_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_API_KEY", SECRET)


def price(model_id: str = "", operation: str = "") -> Prices | None:
    """What is in force at the lab."""
    version = prices_in_force(Provider.objects.get(slug="lab")).get((model_id, operation))
    return version.prices if version else None


def run_apply(file: Path | str, *arguments: Any) -> str:
    out = io.StringIO()
    call_command("apply", str(file), *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "file.yaml"
        path.write_text(text)
        return path

    return write


def test_the_documented_example_does_what_it_says(tmp_path: Path, settings: Any) -> None:
    out = run_apply(EXAMPLE, "--keys-out", tmp_path / "keys.json")
    lab, lab2 = Provider.objects.get(slug="lab"), Provider.objects.get(slug="lab2")
    assert (lab.adapter, lab.base_url) == ("openai", "http://127.0.0.1:9900/v1")
    assert lab.allow_private_network and lab.needs_credential and not lab2.needs_credential
    assert lab.credentials.get(name="main").secret() == SECRET
    assert (lab.breaker, lab.retry) == ({"preset": "production"}, {})
    assert snapshot.load().providers["lab"].retry.max_attempts == 5
    assert lab.quotas == [{"metric": "requests", "window": "day", "limit": 100000}]
    model = Model.objects.get(provider=lab, model_id="gpt-x")
    assert price("gpt-x") == Prices(1_000_000, 2_000_000)
    assert (model.context, model.max_output) == (128000, 4096)
    route = Route.objects.get(alias="lab-chat")
    assert [(str(t), t.weight) for t in route.targets.all()] == [
        ("lab/gpt-x", 1),
        ("lab2/gpt-y", 2),
    ]
    assert (route.strategy, route.rescue, route.timeouts["idle_ms"]) == ("priority", "none", 15000)
    acme = Tenant.objects.get(slug="acme")
    assert (acme.plan.slug, acme.time_zone) == ("unlimited", "Europe/Stockholm")
    assert acme.rate_limits == [{"scope": "key", "limit": 10, "per_seconds": 60}]
    assert acme.quotas[0]["thresholds"] == [50, 80, 100]
    text = json.loads((tmp_path / "keys.json").read_text())["acme/bench"]
    parsed = keys.parse(text)
    assert parsed
    key = ApiKey.objects.get(public_id=parsed.public_id)
    assert key.digest == keys.digest(text, settings.KEY_PEPPER)
    assert (key.mode, key.scopes, key.project.slug) == ("live", ["*"], "default")
    assert SECRET not in out and text not in out
    assert "+ provider lab\n" in out and "+ route lab-chat\n" in out and "+ key acme/bench" in out


def test_a_second_run_changes_nothing_and_keeps_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    run_apply(EXAMPLE, "--keys-out", path)
    before, revision = path.read_text(), Revision.numbers()
    assert run_apply(EXAMPLE, "--keys-out", path) == "nothing to change\n"
    assert path.read_text() == before
    assert Revision.numbers() == revision
    assert ApiKey.objects.count() == 1


def test_only_the_owner_may_read_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text('{"other/key": "pb_live_kept"}')
    path.chmod(0o644)
    run_apply(EXAMPLE, "--keys-out", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(json.loads(path.read_text())) == {"other/key", "acme/bench"}
    assert list(tmp_path.iterdir()) == [path]


def test_keys_that_cannot_be_kept_are_not_made(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="Nothing was changed"):
        run_apply(EXAMPLE, "--keys-out", tmp_path / "no" / "such" / "folder.json")
    assert not Provider.objects.exists() and not ApiKey.objects.exists()


def test_without_keys_out_new_keys_are_shown_once() -> None:
    out = run_apply(EXAMPLE)
    text = out.split("acme/bench: ")[-1].split()[0]
    assert keys.parse(text)
    assert "pb_live" not in run_apply(EXAMPLE)


def test_a_dry_run_tells_and_changes_nothing(tmp_path: Path) -> None:
    out = run_apply(EXAMPLE, "--dry-run", "--keys-out", tmp_path / "keys.json")
    assert "+ provider lab" in out and "none made" in out and "pb_live" not in out
    assert not Provider.objects.exists() and not Tenant.objects.exists()
    assert not (tmp_path / "keys.json").exists()
    assert Revision.numbers() == {}


def test_a_change_is_told_and_made(write: Any) -> None:
    run_apply(EXAMPLE)
    text = EXAMPLE.read_text()
    text = text.replace(":9900/v1", ":9955/v1").replace('_per_million: "1"', "_per_million: 0.15")
    text = text.replace("      - {provider: lab2, model: gpt-y, weight: 2}\n", "")
    text = text.replace("limit: 10,", "limit: 20,").replace(
        "allowed_ips: []", "allowed_ips: [10.0.0.0/8]"
    )
    out = run_apply(write(text))
    assert "~ provider lab: base_url http://127.0.0.1:9900/v1 → http://127.0.0.1:9955/v1" in out
    assert "~ price lab/gpt-x: input_usd_per_million 1 → 0.15" in out
    assert "- target of lab-chat: lab2/gpt-y ×2" in out
    assert "~ tenant acme: rate_limits" in out and "~ key acme/bench: allowed_ips" in out
    assert price("gpt-x") == Prices(150_000, 2_000_000)
    assert Target.objects.count() == 1
    assert ApiKey.objects.get().allowed_ips == ["10.0.0.0/8"]


def test_a_price_that_differs_is_a_new_version(write: Any) -> None:
    text = LAB[:-3] + ", models: [{id: m, input_usd_per_million: '%s'}]}]"
    for usd in ("1", "1", "3", "1.0", "1"):
        run_apply(write(text % usd))
    amounts = Price.objects.order_by("effective_from").values_list("input", flat=True)
    assert list(amounts) == [1_000_000, 3_000_000, 1_000_000]
    run_apply(write(LAB[:-3] + ", models: [{id: m, output_usd_per_million: '5'}]}]"))
    assert price("m") == Prices(1_000_000, 5_000_000), "what is not named stays"


PRICED = """\
providers:
  - slug: lab
    adapter: openai
    base_url: https://lab.example.com/v1
    prices:
      - {model: "*", input_usd_per_million: 2, output_usd_per_million: 6}
      - {model: m, operation: embeddings, input_usd_per_million: "0.1"}
      - {model: m, input_usd_per_million: 4, output_usd_per_million: 8, usd_per_call: "0.01",
         cache_write_usd_per_million: 5, reasoning_usd_per_million: 9,
         cached_input_usd_per_million: 1}
      - {usd_per_thousand_units: "1.5"}
      - {model: m, effective_from: "2100-01-01T00:00:00Z", input_usd_per_million: 3}
      - {model: m, effective_from: "2001-01-01T00:00:00+02:00", input_usd_per_million: 1}
"""


def test_prices_are_said_in_full(write: Any) -> None:
    out = run_apply(write(PRICED))
    assert "+ price lab/m: from 2099-12-31" not in out
    assert "+ price lab/m: from 2100-01-01T00:00:00Z" in out
    assert "+ price lab/m (embeddings)\n" in out and "+ price lab\n" in out
    assert price("*") == Prices(2_000_000, 6_000_000)
    assert price("m", "embeddings") == Prices(100_000)
    assert price("m") == Prices(4_000_000, 8_000_000, 1_000_000, 5_000_000, 9_000_000, call=10_000)
    assert price() == Prices(unit=1_500_000_000)
    assert run_apply(write(PRICED)) == "nothing to change\n"
    assert Price.objects.count() == 6


def test_only_a_price_to_come_can_be_changed(write: Any) -> None:
    run_apply(write(PRICED))
    changed = PRICED.replace(
        '00:00Z", input_usd_per_million: 3', '00:00Z", input_usd_per_million: 7'
    )
    assert "~ price lab/m: input 3000000 → 7000000" in run_apply(write(changed))
    with pytest.raises(CommandError, match="never changes"):
        run_apply(
            write(
                PRICED.replace(
                    '+02:00", input_usd_per_million: 1', '+02:00", input_usd_per_million: 7'
                )
            )
        )
    assert Price.objects.count() == 6


def test_a_plans_markup(write: Any) -> None:
    text = "plans: [{slug: a, markup_percent: %s}]"
    for percent, hundredths in (("'12.5'", 1250), ("-100", -10_000), ("0.01", 1), ("'0'", 0)):
        run_apply(write(text % percent))
        assert Plan.objects.get().markup == hundredths
    for bad in ("-101", "'1.005'", "0.001", "10001", "x"):
        with pytest.raises(CommandError, match="markup_percent"):
            run_apply(write(text % bad))


def test_a_changed_secret_is_sealed_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    run_apply(EXAMPLE)
    monkeypatch.setenv("LAB_API_KEY", "sk-lab-another-one-42")
    out = run_apply(EXAMPLE)
    assert out == "~ credential lab/main: secret (hidden)\n1 changes made\n"
    assert Credential.objects.get().secret() == "sk-lab-another-one-42"


PAIRED = """
providers:
- slug: jobs
  adapter: manifest
  base_url: https://jobs.example/v1
  docs_url: https://jobs.example/docs
  manifest:
    auth: {type: query, names: {app_id: id, app_key: key}}
    verification: {operation: jobs.search, params: {q: x}}
    operations:
      jobs.search:
        request: {path: /jobs, query: {q: "{q}"}}
        map: {id: id, title: t, company: c, url: u, posted_at: p}
        examples: [one]
  credentials:
  - {name: main, secret: %s}
"""


def test_a_secret_of_several_parts_is_written_as_an_object_or_as_its_json(write: Any) -> None:
    run_apply(write(PAIRED % "{app_key: '${LAB_API_KEY}', app_id: id-1}"))
    credential = Credential.objects.get()
    assert json.loads(credential.secret()) == {"app_id": "id-1", "app_key": SECRET}
    assert credential.last_four == ""
    out = io.StringIO()
    call_command("export", "--all", stdout=out)
    assert "${JOBS_MAIN_SECRET}" in out.getvalue()
    assert SECRET not in out.getvalue() and "id-1" not in out.getvalue()
    same = json.dumps({"app_key": SECRET, "app_id": "id-1"}, indent=1)
    assert run_apply(write(PAIRED % f"'{same}'")) == "nothing to change\n"
    out = run_apply(write(PAIRED % "{app_key: '${LAB_API_KEY}', app_id: id-2}"))
    assert out == "~ credential jobs/main: secret (hidden)\n1 changes made\n"


@pytest.mark.parametrize(
    "secret", ["'${LAB_API_KEY}'", "{app_key: '${LAB_API_KEY}'}", "{app_id: a, app_key: b, c: d}"]
)
def test_a_secret_that_lacks_a_part_is_refused_and_not_repeated(secret: str, write: Any) -> None:
    with pytest.raises(CommandError, match='"app_id": "…", "app_key": "…"') as caught:
        run_apply(write(PAIRED % secret))
    assert SECRET not in str(caught.value)
    assert not Credential.objects.exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/token", "https://10.1.2.3/token"])
def test_a_token_from_inside_needs_the_operators_word_too(url: str, write: Any) -> None:
    text = PAIRED.replace("{type: query, names: {app_id: id, app_key: key}}", "%s")
    text = text.replace("%s}", '\'{"client_id": "a", "client_secret": "b"}\'}')
    text = text.replace("auth: %s", f"auth: {{type: oauth2, token_url: '{url}'}}")
    with pytest.raises(CommandError, match=r"manifest.*allow_private_network: true"):
        run_apply(write(text))
    run_apply(write(text.replace("  adapter: m", "  allow_private_network: true\n  adapter: m")))
    assert Credential.objects.get().provider.manifest["auth"]["token_url"] == url


def test_what_the_file_does_not_name_stays(write: Any) -> None:
    run_apply(EXAMPLE)
    run_apply(write("providers: [{slug: lab, name: The lab}]"))
    lab = Provider.objects.get(slug="lab")
    assert (lab.name, lab.base_url) == ("The lab", "http://127.0.0.1:9900/v1")
    assert lab.credentials.count() == lab.models.count() == 1
    assert Provider.objects.count() == 2 and Tenant.objects.count() == 1


def test_limits_are_the_default_ones_unless_the_file_says_none(write: Any) -> None:
    run_apply(write("plans: [{slug: a}, {slug: b, rate_limits: []}]"))
    assert Plan.objects.get(slug="a").rate_limits == DEFAULT_RATE_LIMITS
    assert Plan.objects.get(slug="b").rate_limits == []
    tenants = "tenants: [{slug: t, plan: a, rate_limits: %s}]"
    run_apply(write(tenants % "[]"))
    assert Tenant.objects.get().rate_limits == []
    run_apply(write(tenants % "null"))
    assert Tenant.objects.get().rate_limits is None


def test_a_tenant_without_projects_gets_one_for_its_keys(write: Any) -> None:
    run_apply(write("plans: [{slug: a}]\ntenants: [{slug: t, plan: a, keys: [{name: k}]}]"))
    assert Project.objects.get().slug == "default"
    assert ApiKey.objects.get().project.slug == "default"


def test_a_revoked_key_stays_revoked_and_a_new_one_may_take_its_name(write: Any) -> None:
    base = "plans: [{slug: a}]\ntenants: [{slug: t, plan: a, keys: [{name: k%s}]}]"
    run_apply(write(base % ""))
    assert "- key t/k: revoked" in run_apply(write(base % ", revoked: true"))
    assert run_apply(write(base % ", revoked: true")) == "nothing to change\n"
    assert "+ key t/k" in run_apply(write(base % ""))
    assert ApiKey.objects.filter(revoked_at=None).count() == 1 and ApiKey.objects.count() == 2


def test_a_data_operation_is_routed_by_a_manifest_of_ones_own(write: Any) -> None:
    manifest = {
        "docs_url": "https://rates.example.com/docs",
        "auth": {"type": "none"},
        "verification": {"operation": "finance.fx_rate", "params": {"base": "EUR", "quote": "SEK"}},
        "operations": {
            "finance.fx_rate": {
                "request": {"path": "/{base}/{quote}"},
                "map": {
                    "base": "b",
                    "quote": "q",
                    "rate": {"path": "r", "transform": "decimal"},
                    "as_of": "t",
                },
                "examples": ["one"],
            }
        },
    }
    provider = {"slug": "rates", "name": "Rates", "category": "finance", "adapter": "manifest"}
    provider |= {"base_url": "https://rates.example.com", "manifest": manifest}
    route = {"operation": "finance.fx_rate", "targets": [{"provider": "rates"}]}
    run_apply(write(json.dumps({"providers": [provider], "routes": [route]})))
    assert [str(t) for t in Route.objects.get(operation="finance.fx_rate").targets.all()] == [
        "rates"
    ]
    run_apply(write(json.dumps({"providers": [provider]})))
    bad = provider | {"manifest": manifest | {"operations": {"finance.nothing": {}}}}
    with pytest.raises(CommandError, match=r"providers\[0\]\.manifest"):
        run_apply(write(json.dumps({"providers": [bad]})))


REFUSED = {
    "unknown section": ("provider: []", "provider (line 1): Unknown. Leave it out"),
    "unknown field": (LAB.replace("adapter", "adaptor"), "providers[0].adaptor (line 1)"),
    "its place": (
        "providers:\n  - slug: lab\n    adapter: openai\n    base_url: https://a.example/v1\n    colour: red\n",
        "providers[0].colour (line 5): Unknown. Leave it out",
    ),
    "missing variable": (
        LAB[:-3] + ", credentials: [{name: m, secret: '${NO_SUCH}'}]}]",
        "providers[0].credentials[0].secret (line 1): NO_SUCH is not set in the environment",
    ),
    "broken placeholder": (LAB.replace("https://lab", "https://${lab"), "A placeholder is written"),
    "loopback": (
        "providers: [{slug: a, adapter: openai, base_url: 'http://127.0.0.1:1/v1'}]",
        "add `allow_private_network: true` to the provider",
    ),
    "unknown adapter": (
        LAB.replace("openai", "telepathy"),
        "providers[0].adapter (line 1): Must be one of",
    ),
    "new provider without a URL": (
        "providers: [{slug: a, adapter: openai}]",
        "`base_url` is missing",
    ),
    "new credential without a secret": (
        LAB[:-3] + ", credentials: [{name: m}]}]",
        "`secret` is missing",
    ),
    "price too fine": (
        LAB[:-3] + ", models: [{id: m, input_usd_per_million: '0.1234567'}]}]",
        "models[0].input_usd_per_million",
    ),
    "negative price": (LAB[:-3] + ", models: [{id: m, input_usd_per_million: -1}]}]", "at least 0"),
    "fine number as price": (
        LAB[:-3] + ", models: [{id: m, input_usd_per_million: 0.00000001}]}]",
        "at most six decimals",
    ),
    "unknown target": (
        "routes: [{alias: a, targets: [{provider: no, model: m}]}]",
        "There is no provider no",
    ),
    "unknown model": (
        LAB + "routes: [{alias: a, targets: [{provider: lab, model: m}]}]",
        "routes[0].targets[0].model (line 2): lab has no model m",
    ),
    "route without targets": ("routes: [{alias: a}]", "`targets` is missing"),
    "unknown operation": (
        LAB + "routes: [{operation: no.such, targets: [{provider: lab}]}]",
        "There is no operation no.such",
    ),
    "alias for data": (
        LAB + "routes: [{alias: a, operation: finance.quote, targets: [{provider: lab}]}]",
        "Leave it out",
    ),
    "provider that does not serve it": (
        LAB + "routes: [{operation: finance.quote, targets: [{provider: lab}]}]",
        "lab does not serve finance.quote",
    ),
    "a route's hedge": ("routes: [{alias: a, hedge: maybe}]", "routes[0].hedge (line 1)"),
    "a route's fan_out": ("routes: [{alias: a, fan_out: 0}]", "routes[0].fan_out (line 1)"),
    "a plan's fan_out": ("plans: [{slug: p, fan_out: 21}]", "plans[0].fan_out (line 1)"),
    "a route's checks": (
        "routes:\n- alias: a\n  checks:\n    not_empty: 1",
        "routes[0].checks.not_empty (line 4)",
    ),
    "a check that nobody knows": (
        "routes: [{alias: a, checks: {colour: red}}]",
        "routes[0].checks.colour (line 1): Unknown",
    ),
    "a forbidden pattern that could hang": (
        MODEL + "routes:\n- alias: a\n  targets: [{provider: lab, model: m}]\n  checks:\n"
        "    forbidden:\n    - fine\n    - '(?<=a)b'",
        "routes[0].checks.forbidden[1] (line 8): This is no regular expression",
    ),
    "checks of vectors": (
        MODEL.replace("{id: m}", "{id: m, operation: embeddings}")
        + "routes: [{alias: a, operation: embeddings, checks: {json: true}, "
        "targets: [{provider: lab, model: m}]}]",
        "Only chats and data are checked",
    ),
    "checks of sound": (
        MODEL.replace("{id: m}", "{id: m, operation: audio.speech}")
        + "routes: [{alias: a, operation: audio.speech, checks: {json: true}, "
        "targets: [{provider: lab, model: m}]}]",
        "Only chats and data are checked",
    ),
    "vectors of two models": (
        MODEL.replace("{id: m}", "{id: m, operation: embeddings}, {id: n, operation: embeddings}")
        + "routes:\n- alias: a\n  operation: embeddings\n  targets:\n"
        "  - {provider: lab, model: m}\n  - {provider: lab, model: n}",
        "routes[0].targets[1].model (line 7): n is another model than m",
    ),
    "what an adapter does not have": (
        MODEL.replace("adapter: openai", "adapter: anthropic").replace(
            "{id: m}", "{id: m, operation: rerank}"
        ),
        "The adapter anthropic has no rerank",
    ),
    "vectors that are to be compared": (
        MODEL.replace("{id: m}", "{id: m, operation: embeddings}")
        + "routes: [{alias: a, operation: embeddings, cache: {semantic: {route: a}}, "
        "targets: [{provider: lab, model: m}]}]",
        "Only routes of chat.completions are `semantic`",
    ),
    "questions that nobody compares": (
        "routes:\n- alias: a\n  cache:\n    semantic: {threshold: 0.9}",
        "routes[0].cache.semantic.route (line 4): This is required",
    ),
    "questions that are everybody's": (
        MODEL + "routes:\n- alias: a\n  targets: [{provider: lab, model: m}]\n  cache:\n"
        "    public: true\n    semantic: {route: e}",
        "routes[0].cache.semantic (line 7): A tenant's questions answer nobody else's",
    ),
    "tenant without a plan": ("tenants: [{slug: t}]", "`plan` is missing"),
    "unknown plan": ("tenants: [{slug: t, plan: gold}]", "There is no plan gold"),
    "time zone": (
        "plans: [{slug: p}]\ntenants: [{slug: t, plan: p, time_zone: Mars/X}]",
        "no IANA time zone",
    ),
    "bad network": (
        "plans: [{slug: p}]\ntenants: [{slug: t, plan: p, keys: [{name: k, allowed_ips: [10.0.0.1/8]}]}]",
        "tenants[0].keys[0] (line 2)",
    ),
    "bad scope": (
        "plans: [{slug: p}]\ntenants: [{slug: t, plan: p, keys: [{name: k, scopes: ['!']}]}]",
        "is no scope",
    ),
    "bad limit": (
        "plans: [{slug: p, rate_limits: [{scope: moon, limit: 1, per_seconds: 1}]}]",
        "Must be ip",
    ),
    "a limit of no scope": (
        "plans:\n- slug: a\n  rate_limits:\n  - {scope: key, limit: 1, per_seconds: 1}\n"
        "  - {limit: 1, per_seconds: 1}",
        "plans[0].rate_limits[1].scope (line 5): This is required",
    ),
    "a limit without a span": (
        "plans:\n- slug: a\n  rate_limits:\n  - {scope: key, limit: 1}",
        'plans[0].rate_limits[0] (line 4): Say "per_seconds"',
    ),
    "a quota's odd scope": (
        "house:\n  quotas:\n  - scope: planet\n    metric: cost\n    window: day\n    limit: 1",
        "house.quotas[0].scope (line 3)",
    ),
    "a quota of USD and not of cost": (
        "house:\n  quotas:\n  - scope: key\n    metric: bytes\n    window: day\n    limit_usd: '1'",
        "house.quotas[0].limit_usd (line 6): Only a quota of cost is in USD",
    ),
    "a quota's thresholds": (
        LAB.replace(
            "}]",
            ",\n  quotas: [{metric: tokens, window: day, limit: 5,\n    thresholds: [80, 50]}]}]",
        ),
        "providers[0].quotas[0].thresholds (line 3): Write them in increasing order",
    ),
    "a key's quota of another scope": (
        "plans: [{slug: a}]\ntenants:\n- slug: t\n  plan: a\n  keys:\n  - name: k\n"
        "    quotas: [{scope: tenant, metric: cost, window: day, limit: 5}]",
        "tenants[0].keys[0].quotas[0].scope (line 7)",
    ),
    "a key's quota of two limits": (
        "plans: [{slug: a}]\ntenants:\n- slug: t\n  plan: a\n  keys:\n  - name: k\n"
        "    quotas: [{metric: cost, window: day, limit: 5, limit_usd: '5'}]",
        "tenants[0].keys[0].quotas[0] (line 7): Say how much",
    ),
    "a provider's retries": (
        LAB.replace("}]", ",\n  breaker: {preset: simple},\n  retry: {base_ms: 5}}]"),
        "providers[0].retry.base_ms (line 3): Unknown. Leave it out",
    ),
    "a breaker's window": (
        LAB.replace("}]", ",\n  breaker: {window: {type: time,\n    calls: 5, seconds: 5}}}]"),
        "providers[0].breaker.window.calls (line 3): A window of type",
    ),
    "a provider's limit by address": (
        LAB.replace("}]", ", rate_limits: [{scope: ip, limit: 1, per_seconds: 1}]}]"),
        "providers[0].rate_limits[0].scope (line 1)",
    ),
    "a provider's time zone": (LAB.replace("}]", ", time_zone: Mars/Olympus}]"), "no IANA"),
    "the house's time zone": ("house: {time_zone: Mars/Olympus}", "no IANA"),
    "key said twice": ("plans: []\nplans: []", "line 2: `plans` is said twice"),
    "no YAML": ("plans: [", "No YAML"),
    "not a mapping": ("- plans", "Must be a mapping"),
    "an alias of itself": ("plans: &a [*a]", "line 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_fault_is_named_and_nothing_is_changed(name: str, write: Any) -> None:
    text, expected = REFUSED[name]
    file = write("plans: [{slug: before}]\n") if "plans:" not in text else write(text)
    if "plans:" not in text:
        file.write_text(text)
    with pytest.raises(CommandError) as caught:
        run_apply(file)
    assert expected in str(caught.value)
    assert "nothing was changed" in str(caught.value)
    for model in (Provider, Route, Tenant, Plan, ApiKey):
        assert not model.objects.exists()


def test_a_fault_never_repeats_a_secret(write: Any) -> None:
    text = LAB[:-3] + ", credentials: [{name: 'no spaces', secret: '${LAB_API_KEY}', colour: x}]}]"
    with pytest.raises(CommandError) as caught:
        run_apply(write(text))
    assert SECRET not in str(caught.value)


INSIDE = [
    "http://localhost:1/v1",
    "http://127.1/v1",
    "http://2130706433/v1",
    "http://0x7f.1/v1",
    "http://0177.0.0.1/v1",
    "http://[::1]:8000/v1",
    "http://[::ffff:10.0.0.1]/v1",
    "http://[64:ff9b::a9fe:a9fe]/v1",
    "http://169.254.169.254/latest",
    "http://10.1.2.3/v1",
    "http://ollama:11434/v1",
    "http://api.internal/v1",
    "http://metadata.google.internal./v1",
]


@pytest.mark.parametrize("url", INSIDE)
def test_an_upstream_inside_needs_the_operators_word(url: str, write: Any) -> None:
    text = f"providers: [{{slug: a, adapter: openai, base_url: '{url}'%s}}]"
    with pytest.raises(CommandError, match="allow_private_network: true"):
        run_apply(write(text % ""))
    run_apply(write(text % ", allow_private_network: true"))
    with pytest.raises(CommandError, match="allow_private_network: true"):
        run_apply(write("providers: [{slug: a, allow_private_network: false}]"))


def test_changing_a_shipped_provider_makes_it_staffs(write: Any) -> None:
    provider = Provider.objects.create(
        slug="shipped",
        name="S",
        adapter="openai",
        base_url="https://a.example/v1",
        source="builtin",
    )
    run_apply(write("providers: [{slug: shipped, credentials: [{name: m, secret: abc}]}]"))
    provider.refresh_from_db()
    assert provider.source == "builtin"
    run_apply(write("providers: [{slug: shipped, base_url: 'https://b.example/v1'}]"))
    provider.refresh_from_db()
    assert provider.source == "operator"


def test_the_documented_limits_and_quotas_are_right(write: Any) -> None:
    run_apply(EXAMPLE)
    page = (EXAMPLE.parents[1] / "configuration.md").read_text()
    text = page.partition("## Rate limits and quotas")[2].partition("```yaml\n")[2]
    file = write(text.partition("```")[0])
    out = run_apply(file)
    assert "~ house: rate_limits [] →" in out and "~ provider lab: rate_limits [] →" in out
    assert "time_zone UTC → America/New_York" in out and "+ plan team" in out
    assert run_apply(file) == "nothing to change\n"
    assert HousePolicy.current().quotas[0]["scope"] == "global"
    assert Provider.objects.get(slug="lab").quotas[0]["weights"] == {"finance.history": 10}
    assert Plan.objects.get(slug="team").quotas[0]["thresholds"] == [50, 80, 95]


def test_a_keys_quotas(write: Any) -> None:
    text = "plans: [{slug: a}]\ntenants: [{slug: t, plan: a, keys: [{name: k, quotas: %s}]}]"
    spending = "[{metric: cost, window: day, limit_usd: '5'}]"
    run_apply(write(text % spending))
    assert ApiKey.objects.get().quotas == [{"metric": "cost", "window": "day", "limit_usd": "5"}]
    assert run_apply(write(text % spending)) == "nothing to change\n"
    assert "~ key t/k: quotas [{" in run_apply(write(text % "[]"))
    assert ApiKey.objects.get().quotas == []


def test_the_house_is_one_row_and_reaches_both_the_keys_and_the_routes(write: Any) -> None:
    house = "house: {rate_limits: [{scope: ip, limit: %s, per_seconds: 1}]}"
    for limit in (1, 2):
        before = Revision.numbers()
        assert "~ house: rate_limits" in run_apply(write(house % limit))
        after = Revision.numbers()
        assert all(after[topic] > before.get(topic, 0) for topic in ("keys", "routing"))
    assert HousePolicy.objects.count() == 1
