"""What `make run` prints when it is ready: the first things to try, with keys that work."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from api.configuration.live import LiveProvider


def welcome(secrets: Mapping[str, str], live: Sequence[LiveProvider], seconds: float) -> str:
    """The text. It holds the demo's secrets: it is for this terminal only."""
    url, key = secrets["PATCHBAY_URL"], secrets["PATCHBAY_TEST_KEY"]
    text = f"""
    Patchbay is ready on {url} (after {seconds:.1f} s). Try, in another terminal:

    1. A chat, answered by the built-in sandbox; `fast` stands for three models that stand in
       for one another:

       curl {url}/api/v1/chat/completions -H 'Authorization: Bearer {key}' \\
         -H 'Content-Type: application/json' \\
         -d '{{"model": "fast", "messages": [{{"role": "user", "content": "Hello"}}]}}'

    2. A stream:

       curl -N {url}/api/v1/chat/completions -H 'Authorization: Bearer {key}' \\
         -H 'Content-Type: application/json' \\
         -d '{{"model": "fast", "stream": true, "messages": [{{"role": "user", "content": "Hi"}}]}}'

    3. A share price, and who told it:

       curl '{url}/api/v1/finance/quote?symbol=AAPL' -H 'Authorization: Bearer {key}'

    A tenant's pages: {url}/app/  as {secrets["TENANT_USER"]}, password {secrets["TENANT_PASSWORD"]}
                      What becomes of the calls above is seen there.
    The admin:        {url}/admin/  as {secrets["ADMIN_USER"]}, password {secrets["ADMIN_PASSWORD"]}
    The docs:         {url}/docs
    The secrets:      var/demo.env (yours only)
    """
    return textwrap.dedent(text) + _live(secrets, live) + "\nCtrl-C stops it.\n"


def _live(secrets: Mapping[str, str], live: Sequence[LiveProvider]) -> str:
    key = secrets["PATCHBAY_LIVE_KEY"]
    lines = [
        f"  {provider.slug} (from {provider.variable})"
        + (f", for example model {provider.model}" if provider.model else "")
        for provider in live
    ]
    if lines:
        return "\nReal providers, for the live key " + key + ":\n" + "\n".join(lines) + "\n"
    return (
        f"\nThe live key {key} reaches real providers: those that need no key of their own at "
        "once,\nthe others when theirs is in the environment, e.g. OPENAI_API_KEY=… make run\n"
    )
