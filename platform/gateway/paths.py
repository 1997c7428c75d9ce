"""Which paths are the data path's. All others are Django's (config/asgi.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from providers.operations import Kind, Operation, registry
from providers.surfaces import FORMS, Form

MODELS = "/api/v1/models"
BATCH = "/api/v1/batch"
# Front ends written before versions, and the name some of them use for chat.
ALIASES: Mapping[str, str] = {
    "/api/v1/ai/chat": "/api/v1/chat/completions",
    "/api/ai/chat": "/api/v1/chat/completions",
    "/api/chat": "/api/v1/chat/completions",
}


@dataclass(frozen=True, slots=True)
class Door:
    """One way in. `argument` is the model id of `/models/{id}`; `openai` doors answer errors
    in OpenAI's envelope; `batch` takes several calls at once. `form` is the other dialect in
    which a chat call is made there."""

    name: str
    method: str
    operation: Operation | None = None
    argument: str = ""
    batch: bool = False
    form: Form | None = None

    @property
    def openai(self) -> bool:
        if self.operation is None:
            return not self.batch
        return self.operation.kind is not Kind.DATA


def find(path: str) -> Door | None:
    """The door at a path, or None when the path is not the data path's."""
    door = _doors().get(path)
    if door is None and path.startswith((MODELS + "/", "/api/models/")):
        return Door("models", "GET", argument=path.partition("/models/")[2])
    return door


@cache
def _doors() -> Mapping[str, Door]:
    doors = {MODELS: Door("models", "GET"), BATCH: Door("batch", "POST", batch=True)}
    for operation in registry().values():
        doors[operation.path] = Door(operation.name, operation.method, operation)
    chat = registry()["chat.completions"]
    for form in FORMS.values():
        doors[form.path] = Door(form.name, "POST", chat, form=form)
    doors |= {alias: doors[path] for alias, path in ALIASES.items()}
    return doors | {path.replace("/api/v1/", "/api/"): door for path, door in doors.items()}
