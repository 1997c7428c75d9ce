"""The small parts of a manifest, compiled: templates, expressions, steps, sources, rules."""

from __future__ import annotations

from typing import Any

from providers.adapters.manifest.bodies import Body
from providers.adapters.manifest.definition import Fault, Place
from providers.adapters.manifest.errors import Rule
from providers.adapters.manifest.expression import Expression, ExpressionError
from providers.adapters.manifest.mapping import Source
from providers.adapters.manifest.templates import Template, TemplateError
from providers.adapters.manifest.transforms import (
    ArgumentError,
    Step,
    Tables,
    compile_steps,
    params_of,
)
from providers.call import Verdict

_NOTHING = Template(())


class Parts:
    """Each method gives the compiled part, or notes a fault and gives one that does nothing."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.faults: list[Fault] = []
        self.known_params: frozenset[str] = frozenset()

    def fault(self, place: Place, words: str) -> None:
        self.faults.append(Fault(place, words))

    def template(self, source: Any, place: Place) -> Template:
        text = str(source).lower() if isinstance(source, bool) else str(source)
        try:
            template = Template.parse(text)
        except TemplateError as error:
            self.fault(place, f"Is no template: {error}.")
            return _NOTHING
        for name in sorted(template.params - self.known_params):
            self.unknown_param(name, place)
        return template

    def body(self, source: dict[str, Any] | None, place: Place) -> Body | None:
        if source is None:
            return None
        kind = next(iter(source))
        if kind == "graphql":
            variables = self._tree(source[kind].get("variables", {}), (*place, kind, "variables"))
            return Body({"query": Template((source[kind]["query"],)), "variables": variables})
        return Body(self._tree(source[kind], (*place, kind)), is_form=kind == "form")

    def _tree(self, source: Any, place: Place) -> Any:
        if isinstance(source, str):
            return self.template(source, place)
        if isinstance(source, dict):
            return {name: self._tree(item, (*place, name)) for name, item in source.items()}
        if isinstance(source, list):
            return [self._tree(item, (*place, index)) for index, item in enumerate(source)]
        return source

    def records(self, spec: Any, place: Place) -> Source | None:
        return None if spec is None else self.source(spec, place)

    def expression(self, source: str, place: Place) -> Expression | None:
        try:
            return Expression.parse(source)
        except ExpressionError as error:
            self.fault(place, f"{error}.")
            return None

    def steps(self, source: Any, place: Place) -> Step:
        try:
            step = compile_steps(source, self.tables)
        except ArgumentError as error:
            self.fault(place, f"{error}.")
            return lambda value, _params: value
        for name in sorted(params_of(source) - self.known_params):
            self.unknown_param(name, place)
        return step

    def source(self, spec: Any, place: Place) -> Source:
        """A field's `spec`: a JMESPath, a constant number, or an object."""
        if isinstance(spec, str):
            return Source(path=self.expression(spec, place))
        if not isinstance(spec, dict):
            return Source(value=spec)
        if len({"path", "param", "value", "any"} & set(spec)) != 1:
            self.fault(place, "Needs one of `path`, `param`, `value` and `any`.")
        if (param := spec.get("param", "")) and param not in self.known_params:
            self.unknown_param(param, (*place, "param"))
        path = spec.get("path")
        return Source(
            path=self.expression(path, (*place, "path")) if path else None,
            whole_document="of" in spec,
            param=param,
            value=spec.get("value"),
            any_of=tuple(
                self.source(inner, (*place, "any", index))
                for index, inner in enumerate(spec.get("any", []))
            ),
            step=self.steps(spec["transform"], (*place, "transform"))
            if "transform" in spec
            else None,
        )

    def rules(
        self, source: list[Any], place: Place, *, body_only: bool = False
    ) -> tuple[Rule, ...]:
        return tuple(
            self._rule(rule, (*place, index), body_only) for index, rule in enumerate(source)
        )

    def _rule(self, source: dict[str, Any], place: Place, body_only: bool) -> Rule:
        when = source["when"]
        if body_only and (unseen := {"header", "content_type", "empty_body"} & set(when)):
            self.fault((*place, "when"), f"An operation's own rule does not see {sorted(unseen)}.")
        status = when.get("status", [])
        predicate, message = when.get("json"), source.get("message")
        wait = source.get("retry_after")
        return Rule(
            verdict=Verdict(source["as"]),
            statuses=frozenset(status if isinstance(status, list) else [status]),
            headers=dict(when.get("header", {})),
            content_type=when.get("content_type", "").lower(),
            empty_body="empty_body" in when,
            predicate=self.expression(predicate, (*place, "when", "json")) if predicate else None,
            message=self.expression(message, (*place, "message")) if message else None,
            retry_after=None if wait is None else self.source(wait, (*place, "retry_after")),
            resets=source.get("resets", ""),
        )

    def unknown_param(self, name: str, place: Place) -> None:
        if name.startswith("page."):
            self.fault(place, f"`{name}` is not there: `page` must say how the provider pages.")
        elif name.startswith("steps."):
            known = ", ".join(sorted(each for each in self.known_params if "." in each))
            hint = f"Those before this one give: {known}." if known else "There is none before it."
            self.fault(place, f"No earlier step gives `{name}`. {hint}")
        else:
            self.fault(place, f"The operation has no parameter `{name}`.")
