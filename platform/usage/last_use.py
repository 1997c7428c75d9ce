"""When each key was last used: noted as its calls are folded, so that a call costs nothing more."""

from __future__ import annotations

from usage.deltas import SQLITE, Dialect


def noting(dialect: Dialect) -> str:
    """The statement that notes the minute of each key's newest call among deltas, whose ids are
    its one parameter, used twice. A key that somebody changes just now is left to its next call,
    so that nobody waits for another in a circle."""
    among = f"FROM usage_usagedelta WHERE id {dialect.among}"
    lock = "" if dialect is SQLITE else " FOR NO KEY UPDATE SKIP LOCKED"
    return (
        "UPDATE tenants_apikey AS k SET last_used_at = used.at"  # noqa: S608 - our own names
        f" FROM (SELECT key_id, max(starts) AS at {among} GROUP BY key_id) AS used"
        " WHERE k.id = used.key_id AND (k.last_used_at IS NULL OR k.last_used_at < used.at)"
        f" AND k.id IN (SELECT id FROM tenants_apikey WHERE id IN (SELECT key_id {among}){lock})"
    )
