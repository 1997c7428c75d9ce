"""Warming in a whole system: what is declared is there before anybody asks, within its bounds."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.patience import eventually
from tests.services.system import System

ASK = {
    "model": "lab-plain",
    "temperature": 0,
    "messages": [{"role": "user", "content": "asked in tests/gateway/test_warming.py"}],
}
# Ten per cent of the provider's 25 a day are two: one of the three rates has to wait.
DECLARED = """
providers:
  - slug: frankfurter
    base_url: "{sandbox}/frankfurter/v1"
    allow_private_network: true
    quotas: [{metric: requests, window: day, limit: 25}]
routes:
  - {operation: finance.fx_rate, targets: [{provider: frankfurter}]}
warm:
  - {name: usd, operation: finance.fx_rate, params: {base: EUR, quote: USD}, every: 86400}
  - {name: gbp, operation: finance.fx_rate, params: {base: EUR, quote: GBP}, every: 86400}
  - {name: jpy, operation: finance.fx_rate, params: {base: EUR, quote: JPY}, every: 86400}
  - name: chat
    tenant: acme
    operation: chat.completions
    every: 86400
    params:
      model: lab-plain
      temperature: 0
      messages: [{role: user, content: asked in tests/gateway/test_warming.py}]
"""


class Office:
    """Those who ask, over HTTP."""

    def __init__(self, system: System) -> None:
        self._system = system

    def _send(self, key: str, method: str, path: str, body: Any = None) -> httpx2.Response:
        bearer = {"Authorization": f"Bearer {self._system.keys[key]}"}
        url = f"{self._system.url}{path}"
        answer = httpx2.request(method, url, json=body, headers=bearer, timeout=20)
        assert answer.status_code < 300, answer.text
        return answer

    def outcomes(self) -> dict[str, Any]:
        told = self._send("acme/operator", "GET", "/internal/v1/cache/warm").json()
        return {row["name"]: row for row in told["requests"]}

    def tell(self, path: str, **body: Any) -> Any:
        return self._send("acme/operator", "POST", f"/internal/v1/cache/{path}", body).json()

    def rate(self, quote: str, key: str = "globex/live") -> str:
        path = f"/api/v1/finance/fx_rate?base=EUR&quote={quote}"
        return str(self._send(key, "GET", path).headers["x-patchbay-cache"])

    def chat(self, key: str) -> str:
        answer = self._send(key, "POST", "/api/v1/chat/completions", ASK)
        return str(answer.headers["x-patchbay-cache"])


def test_the_first_call_is_a_hit_and_warming_keeps_to_its_share(new_system: Any) -> None:
    system: System = new_system(DECLARED)
    office = Office(system)
    told = eventually(lambda: _all_run(office.outcomes()), seconds=15)
    rates = {name: row["outcome"] for name, row in told.items() if name != "chat"}
    assert sorted(rates.values()) == ["ok", "ok", "provider_unavailable"]
    found = {name: office.rate(name.upper()) for name in rates}
    assert {name for name, how in found.items() if how == "hit"} == {
        name for name, outcome in rates.items() if outcome == "ok"
    }
    assert (office.chat("acme/live"), office.chat("globex/live")) == ("hit", "miss")

    rows = system.rows(
        "SELECT tenant_id, operation, charge FROM usage_usagerecord WHERE cache = ?", "warm"
    )
    acme = system.rows("SELECT id FROM tenants_tenant WHERE slug = ?", "acme")[0]["id"]
    billed = sorted((row["tenant_id"], row["operation"], row["charge"] > 0) for row in rows)
    assert billed == [
        (0, "finance.fx_rate", False),  # the house's, at a provider that takes nothing
        (0, "finance.fx_rate", False),
        (acme, "chat.completions", True),
    ]

    office.tell("invalidate", tenant="acme")
    office.tell("warm", name="chat")
    eventually(lambda: office.outcomes()["chat"]["ran_at"] != told["chat"]["ran_at"], seconds=15)
    assert office.chat("acme/live") == "hit"


def _all_run(outcomes: dict[str, Any]) -> dict[str, Any] | None:
    return outcomes if all(row["ran_at"] for row in outcomes.values()) else None
