"""Makes the database match a file, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from django.db import transaction

from api.configuration.document import ConfigurationFile
from api.configuration.providers import apply_provider
from api.configuration.routes import apply_route
from api.configuration.run import Run
from api.configuration.tenants import apply_house, apply_plan, apply_tenant
from api.configuration.warm import apply_warm

# In the order in which they name one another.
SECTIONS: Mapping[str, Callable[..., None]] = {
    "plans": apply_plan,
    "tenants": apply_tenant,
    "providers": apply_provider,
    "routes": apply_route,
    "warm": apply_warm,
}


def apply(
    file: ConfigurationFile,
    *,
    dry_run: bool = False,
    before_commit: Callable[[Run], None] = lambda _: None,
) -> Run:
    """What was changed, or would be. Raises ConfigurationFault, and then nothing is.

    `before_commit` puts new keys where they last: when it fails, nothing is changed either.
    """
    run = Run(file)
    with transaction.atomic():
        if "house" in file.content:
            apply_house(run, file.content["house"], ("house",))
        for section, apply_item in SECTIONS.items():
            for item, place in file.items(section):
                apply_item(run, item, place)
        if dry_run:
            transaction.set_rollback(True)
        else:
            before_commit(run)
    return run
