"""A question that was asked before in other words: its answer, where the route opts in.

It comes after the exact look-up, which costs nothing more for it. The question becomes a vector
by one of our own embeddings routes, and the nearest earlier one's answer is served if it is near
enough, is still kept, and no number, name or "not" tells the two apart (cache/lexical.py). No
embedding in time is no answer, never an error. Now and then a provider is asked behind all the
same, and both answers are compared: so false hits can be seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING

import orjson
import structlog

from cache import replay
from cache.cache import Cache
from cache.entry import Entry
from cache.freshness import State
from cache.lexical import facts, told_apart
from cache.looking import Ask, Look
from cache.semantic import similarity, split
from gateway import caching
from gateway.embedding import Embedded, Handle, embed
from providers.cache_rules import Semantic as Rules

log = structlog.get_logger("patchbay.cache")

if TYPE_CHECKING:
    from gateway.serving import Admitted

PATIENCE = 0.3  # seconds for a question's vector, and no more than a part of what is left
PART = 0.25
PATIENCE_BEHIND = 10.0  # where nobody waits for it
SHORT = 100  # characters of an answer in which one word more or less is all of it
LONGEST_SAID = 4000  # characters of an answer that are compared
SIMILARITY = b"x-patchbay-cache-similarity"


Check = Callable[[Look], Awaitable[None]]


@dataclass(slots=True)
class Sought:
    """A question's place among earlier ones. `entry` is the answer of the nearest, if one may be
    served, `ask` what that lies under, `similarity` how near it is (the cosine)."""

    rules: Rules
    shelf: bytes
    text: str
    embedding: asyncio.Task[Embedded | None]
    ask: Ask
    entry: Entry | None = None
    similarity: float = 0.0


class Semantic:
    """One for the whole process. `handle` is the gateway's own way in."""

    def __init__(self, cache: Cache, handle: Handle) -> None:
        self.random = SystemRandom()
        self._cache = cache
        self._handle = handle

    async def seek(self, it: Admitted, ask: Ask) -> Sought | None:
        """None where the question may only be answered in its own words."""
        rules, place, wish = it.plan.semantic, ask.place, ask.wish
        if rules is None or place.tenant_id is None or wish.exact or wish.no_cache:
            return None
        question = split(it.call.params)
        if question is None:
            return None
        left = it.deadline - asyncio.get_running_loop().time()
        seconds = min(PATIENCE, PART * left)
        rest, text = question
        # It goes on when nobody waits for it any longer: it has a bill, and an answer to come.
        vector = embed(self._handle, it.exchange, rules.route, [text], seconds=seconds)
        task = self._cache.do_behind(vector)
        await asyncio.wait({task}, timeout=seconds)
        sought = Sought(rules, self._cache.shelf(place, rest), text, task, ask)
        await self._find(sought, it.plan.route.name)
        return sought

    def keep(self, sought: Sought, ask: Ask) -> None:
        """The question has an answer of its own now, if that may be kept."""
        made = _made(sought)
        if made is not None and self._cache.memory.peek(ask.key) is not None:
            shelf = sought.shelf, made.space
            self._cache.questions.add(shelf, made.vectors[0], sought.text, ask.key)

    def serve(self, it: Admitted, sought: Sought) -> Check | None:
        """Say how near it is. Some of them are checked behind."""
        it.ask = sought.ask
        it.exchange.note([(SIMILARITY, b"%.3f" % sought.similarity)])
        is_checked = self.random.random() < sought.rules.verify
        return partial(self._check, it, sought) if is_checked else None

    async def _find(self, sought: Sought, route: str) -> None:
        questions, made = self._cache.questions, _made(sought)
        scores = questions.scores[route]
        if made is None:
            scores.failed += 1
            return
        shelf, rules = (sought.shelf, made.space), sought.rules
        for near in questions.near(shelf, made.vectors[0], sought.text, rules.threshold):
            ask = sought.ask._replace(
                key=near.key, wish=sought.ask.wish._replace(only_if_cached=True)
            )
            async with self._cache.look(ask) as look:
                if look.entry is not None and look.state is State.FRESH:
                    sought.ask, sought.entry, sought.similarity = ask, look.entry, near.similarity
                    scores.hits += 1
                    scores.similarity += near.similarity
                    return
                if look.known is None:
                    questions.drop(shelf, near.key)
        scores.misses += 1

    async def _check(self, it: Admitted, sought: Sought, look: Look) -> None:
        """Ask a provider, and compare what it says with what was served."""
        served = sought.entry
        await self._handle(it.door, *caching.again(it.exchange, it.asked, look))
        own = self._cache.memory.peek(look.ask.key)
        if own is None or own is look.known or served is None:
            return
        self.keep(sought, look.ask)
        agreed = await self._agree(it, sought.rules, _said(served), _said(own))
        if agreed is not None:
            self._count(it, sought, agreed=agreed)

    def _count(self, it: Admitted, sought: Sought, *, agreed: bool) -> None:
        route, near = it.plan.route.name, round(sought.similarity, 3)
        scores = self._cache.questions.scores[route]
        scores.agreed += agreed
        scores.differed += not agreed
        if not agreed:
            name = it.exchange.request_id
            log.info("semantic_differed", request_id=name, route=route, similarity=near)

    async def _agree(self, it: Admitted, rules: Rules, one: str, other: str) -> bool | None:
        """None where it cannot be said."""
        if one == other:
            return True
        if max(len(one), len(other)) <= SHORT and told_apart(facts(one), facts(other)):
            return False
        if not one or not other:
            return False
        told = await embed(
            self._handle, it.exchange, rules.route, [one, other], seconds=PATIENCE_BEHIND
        )
        return None if told is None else similarity(*told.vectors) >= rules.threshold


def _made(sought: Sought) -> Embedded | None:
    """The question's vector, if it is there by now."""
    task = sought.embedding
    if not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return task.result()


def _said(entry: Entry) -> str:
    """An answer's words; what has none, such as a tool's call, as JSON."""
    usage = entry.origin.usage
    body = replay.whole(entry.stream(), usage) if entry.is_stream else entry.body()
    messages = [choice["message"] for choice in orjson.loads(body)["choices"]]
    words = messages[0].get("content") if len(messages) == 1 else None
    text = words if isinstance(words, str) and words else orjson.dumps(messages).decode()
    return text[:LONGEST_SAID]
