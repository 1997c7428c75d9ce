"""From the configuration's change to the next answer: what depends on it is asked for anew, by
the very next call that knows of it, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command

from api.configuration import catalogue
from providers.models import Provider, Route
from tests.gateway.unit.rig import CHAT, HELLO, Rig, chat, slug_of, whole
from tests.loops import on_loop
from tests.shipped import FILES

pytestmark = pytest.mark.django_db(transaction=True)
RATE = "/api/v1/finance/fx_rate?base=EUR&quote=SEK"
OF_M, OF_N, OF_OTHER = "of-m", "of-n", "of-other"
CONFIGURATION = """
providers:
  - {slug: frankfurter, base_url: "https://frankfurter.test"}
  - slug: lab
    adapter: openai
    base_url: https://lab.test/v1
    credentials: [{name: main, secret: sk-lab-0123456789}]
    models:
      - {id: m, input_usd_per_million: "1", output_usd_per_million: "2"}
      - {id: n, input_usd_per_million: "10", output_usd_per_million: "20"}
  - slug: other
    adapter: openai
    base_url: https://other.test/v1
    credentials: [{name: main, secret: sk-other-0123456789}]
    models: [{id: m}]
routes:
  - {alias: of-m, operation: chat.completions, targets: [{provider: lab, model: m}]}
  - {alias: of-n, operation: chat.completions, targets: [{provider: lab, model: n}]}
  - {alias: of-other, operation: chat.completions, targets: [{provider: other, model: m}]}
  - {operation: finance.fx_rate, targets: [{provider: frankfurter}]}
"""
# What is written instead of what, and who is asked anew.
CHANGES = [
    ("https://lab.test/v1", "https://lab.test/v2", {OF_M, OF_N}),
    ("{provider: lab, model: n}", "{provider: other, model: m}", {OF_N}),
    ("{provider: lab, model: m}]", "{provider: lab, model: m}], cache: {ttl: 99}", {OF_M}),
    ('input_usd_per_million: "1"', 'input_usd_per_million: "3"', {OF_M}),
    ("sk-lab-0123456789", "sk-lab-9876543210", set()),
    ("{slug: frankfurter,", "{slug: frankfurter, prices: [{usd_per_call: '0.01'}],", {RATE}),
]


def another_manifest() -> None:
    row = Provider.objects.get(slug="frankfurter")
    row.manifest = {**row.manifest, "note": "Another word, and so another manifest."}
    row.save()


def another_setting() -> None:
    row = Provider.objects.get(slug="other")
    row.settings = {**row.settings, "organization": "org-1"}
    row.save()


def another_rule() -> None:
    row = Route.objects.get(alias=OF_M)
    row.cache = {"ttl": 98}
    row.save()


# As the admin does: a row is changed and saved.
BY_HAND: list[tuple[Callable[[], None], set[str]]] = [
    (another_manifest, {RATE}),
    (another_setting, {OF_OTHER, OF_N}),
    (another_rule, {OF_M}),
]


class Stage:
    def __init__(self, rig: Rig, file: Path) -> None:
        self.rig, self.file, self.text = rig, file, ""
        rates = {"amount": 1.0, "base": "EUR", "date": "2027-01-15", "rates": {"SEK": 11.5}}
        rig.upstreams.script = lambda request: (
            whole(rates) if slug_of(request) == "frankfurter" else chat()
        )

    async def apply(self, text: str) -> None:
        self.text = text
        self.file.write_text(text)
        await sync_to_async(call_command)("apply", str(self.file))
        await self.rig.gateway.live.poll()

    async def by_hand(self, what: Callable[[], None]) -> None:
        await sync_to_async(what)()
        await self.rig.gateway.live.poll()

    async def asked_anew(self) -> set[str]:
        """Of all that are kept, those for which a provider is asked."""
        found = set()
        for name in (OF_M, OF_N, OF_OTHER, RATE):
            body = {"model": name, "messages": HELLO, "temperature": 0}
            request = {} if name == RATE else {"body": body}
            client = await self.rig.ask(name if name == RATE else CHAT, **request)
            assert client.status == 200, client.body
            if client.headers["x-patchbay-cache"] == "miss":
                found.add(name)
        return found


@pytest.fixture
def stage(rig: Rig, tmp_path: Path) -> Stage:
    catalogue.load([file for file in FILES if file.document["slug"] == "frankfurter"])
    return Stage(rig, tmp_path / "patchbay.yaml")


def test_what_changed_is_asked_for_anew_and_nothing_else(stage: Stage) -> None:
    @on_loop
    async def run() -> None:
        await stage.apply(CONFIGURATION)
        assert await stage.asked_anew() == {OF_M, OF_N, OF_OTHER, RATE}
        assert await stage.asked_anew() == set()
        await stage.apply(CONFIGURATION)  # again, and nothing is new
        assert await stage.asked_anew() == set()
        for before, after, gone in CHANGES:
            await stage.apply(stage.text.replace(before, after))
            assert await stage.asked_anew() == gone, after
            assert await stage.asked_anew() == set()
        for change, gone in BY_HAND:
            await stage.by_hand(change)
            assert await stage.asked_anew() == gone, change
            assert await stage.asked_anew() == set()

    run()
