"""One item of a Response's output while it is being told: begun, said in pieces, and done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from providers.surfaces.responses.sealing import sealed

Told = Iterator[tuple[str, dict[str, Any]]]
"""Events by their kind, without what all of them say."""


class Output(ABC):
    """`where` is what its events repeat: the item's id and place."""

    def __init__(self, item_id: str, place: int) -> None:
        self.where: dict[str, Any] = {"item_id": item_id, "output_index": place}
        self.text = ""

    def begin(self) -> Told:
        yield "output_item.added", self._at(item=self.item("in_progress"))

    @abstractmethod
    def say(self, text: str) -> Told: ...

    @abstractmethod
    def end(self) -> Told:
        """What is told before the item itself is."""
        ...

    def done(self, status: str) -> Told:
        yield from self.end()
        yield "output_item.done", self._at(item=self.item(status))

    @abstractmethod
    def item(self, status: str) -> dict[str, Any]:
        """As it is now."""
        ...

    def _at(self, **said: Any) -> dict[str, Any]:
        return {"output_index": self.where["output_index"], **said}


class Message(Output):
    """Text, or a refusal of a model that tells it apart."""

    def __init__(self, item_id: str, place: int, *, refuses: bool) -> None:
        super().__init__(item_id, place)
        self._name = "refusal" if refuses else "text"
        self._kind = "refusal" if refuses else "output_text"
        self._more: dict[str, Any] = {} if refuses else {"logprobs": []}

    def begin(self) -> Told:
        yield from super().begin()
        yield "content_part.added", {**self.where, "content_index": 0, "part": self._part()}

    def say(self, text: str) -> Told:
        self.text += text
        yield f"{self._kind}.delta", {**self.where, "content_index": 0, "delta": text, **self._more}

    def end(self) -> Told:
        place = {**self.where, "content_index": 0}
        yield f"{self._kind}.done", {**place, self._name: self.text, **self._more}
        yield "content_part.done", {**place, "part": self._part()}

    def item(self, status: str) -> dict[str, Any]:
        content = [] if status == "in_progress" else [self._part()]
        said = {"role": "assistant", "content": content}
        return {"id": self.where["item_id"], "type": "message", "status": status, **said}

    def _part(self) -> dict[str, Any]:
        part = {"type": self._kind, self._name: self.text}
        return part if self._name == "refusal" else {**part, "annotations": [], "logprobs": []}


class Call(Output):
    def __init__(self, item_id: str, place: int, *, call_id: str, name: str) -> None:
        super().__init__(item_id, place)
        self._call = {"call_id": call_id, "name": name}

    def say(self, text: str) -> Told:
        self.text += text
        yield "function_call_arguments.delta", {**self.where, "delta": text}

    def end(self) -> Told:
        done = {**self.where, "name": self._call["name"], "arguments": self.text}
        yield "function_call_arguments.done", done

    def item(self, status: str) -> dict[str, Any]:
        head = {"id": self.where["item_id"], "type": "function_call", "status": status}
        return {**head, **self._call, "arguments": self.text}


class Reasoning(Output):
    """`extra` is what goes back to the model's maker as it is."""

    def __init__(self, item_id: str, place: int) -> None:
        super().__init__(item_id, place)
        self.extra: Mapping[str, Any] = {}

    def say(self, text: str) -> Told:
        place = {**self.where, "summary_index": 0}
        if not self.text:
            yield "reasoning_summary_part.added", {**place, "part": _summary("")}
        self.text += text
        yield "reasoning_summary_text.delta", {**place, "delta": text}

    def end(self) -> Told:
        if self.text:
            place = {**self.where, "summary_index": 0}
            yield "reasoning_summary_text.done", {**place, "text": self.text}
            yield "reasoning_summary_part.done", {**place, "part": _summary(self.text)}

    def item(self, status: str) -> dict[str, Any]:
        told = status != "in_progress"
        summary = [_summary(self.text)] if self.text and told else []
        item = {"id": self.where["item_id"], "type": "reasoning", "status": status}
        if self.extra and told:
            item["encrypted_content"] = sealed(self.extra)
        return {**item, "summary": summary}


def _summary(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}
