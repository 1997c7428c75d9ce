"""docs/providers/recordings.md: what each recording came to, by provider and operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from tests.gateway.unit.recordings import OTHERWISE, Recording, Result

PAGE = Path(__file__).parents[3] / "docs/providers/recordings.md"
HEAD = """\
# Recordings

<!-- Written by `make provider-docs`; a test keeps it true. -->

Answers that providers really gave once, as public projects recorded them. Each is served from a real socket at
the provider's path and called through a whole gateway: what comes back is canonical data, or the outcome of
[the taxonomy](writing-a-manifest.md#errors) that is right. They prove the mapping, not today's service: some
are of 2012. They are no part of the repository.
"""


def page(results: Sequence[Result], strangers: Sequence[Recording]) -> str:
    """`strangers` are the recordings that no provider or operation of ours is there for."""
    total = len(results) + len(strangers)
    otherwise = [each for each in results if each.recording.path in OTHERWISE]
    return "\n".join(
        [
            HEAD,
            f"{total} recordings of {_providers(results, strangers)} providers: {len(results)} called, "
            f"{len(results) - len(otherwise)} of which came to what their names say.\n",
            *_table(("provider", "operation", "recordings", "came to"), _sums(results)),
            "\n## Otherwise than their names say\n",
            *_table(("recording", "came to", "because it is"), map(_otherwise, otherwise)),
            "\n## Not in the catalogue\n",
            *_table(("provider", "operation", "recordings", "reason"), _missing(strangers)),
            "",
        ]
    )


def _providers(results: Iterable[Result], strangers: Iterable[Recording]) -> int:
    return len({e.recording.provider for e in results} | {e.provider for e in strangers})


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def _sums(results: Sequence[Result]) -> Iterable[Sequence[object]]:
    def whose(result: Result) -> tuple[str, str]:
        return result.recording.at, result.recording.operation

    for (slug, operation), some in groupby(sorted(results, key=whose), whose):
        counts = Counter(result.verdict for result in some)
        told = ", ".join(f"{count} `{verdict}`" for verdict, count in sorted(counts.items()))
        yield slug, f"`{operation}`", counts.total(), told


def _otherwise(result: Result) -> Sequence[object]:
    path = result.recording.path
    return f"{path.removesuffix('.json')}", f"`{result.verdict}`", OTHERWISE[path].why


def _missing(strangers: Sequence[Recording]) -> Iterable[Sequence[object]]:
    counts = Counter((each.provider, each.operation, each.not_ours) for each in strangers)
    for (provider, operation, reason), count in sorted(counts.items()):
        yield provider, f"`{operation}`", count, reason
