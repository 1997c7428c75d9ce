"""`manage.py provider`: definitions begun, checked, tried out and tested, from a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, ProgrammingError

from lib.problems import Problem
from providers import definitions
from providers.catalogue import (
    CatalogueError,
    CatalogueFile,
    Line,
    load_documents,
    read_document,
    read_examples,
)
from providers.catalogue.documents import FOLDER
from providers.definition_models import Definition
from providers.models import Provider
from providers.operations import Kind, parse_query, registry
from providers.proving import Proof, prove
from providers.trying import Question, try_live, try_sandbox

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Command(BaseCommand):
    help = "Definitions of providers: begin one, check it, make one call by it, run its examples."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        new = actions.add_parser("new", help="Write a definition to begin with.")
        new.add_argument("slug")
        new.add_argument("--template", choices=["rest", "ai"], default="rest")
        new.add_argument("--folder", type=Path, default=Path(), help="Where; here unless said.")
        validate = actions.add_parser("validate", help="Say what is wrong with definitions.")
        validate.add_argument("files", nargs="+", type=Path, metavar="FILE")
        attempt = actions.add_parser("try", help="Make one call, and show all of it.")
        attempt.add_argument("slug")
        attempt.add_argument("operation")
        attempt.add_argument("params", nargs="*", metavar="NAME=VALUE")
        attempt.add_argument("--sandbox", action="store_true", help="Not the provider itself.")
        test = actions.add_parser("test", help="Run the examples of definitions.")
        test.add_argument("slugs", nargs="*", metavar="SLUG", help="All unless said.")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            getattr(self, f"_{action}")(**options)
        except Problem as problem:
            raise CommandError("\n".join(_words(problem))) from None

    def _new(self, slug: str, template: str, folder: Path, **options: Any) -> None:
        if not _SLUG.fullmatch(slug):
            raise CommandError("A slug has lower-case letters, digits and hyphens, 63 at most.")
        document, examples = definitions.template(template, slug)
        files = {folder / f"{slug}.yaml": document}
        for example in examples:
            name = example.pop("name")
            text = orjson.dumps(example, option=orjson.OPT_INDENT_2).decode() + "\n"
            files[folder / "examples" / slug / f"{name}.json"] = text
        if there := [path for path in files if path.exists()]:
            raise CommandError(f"{there[0]} is there already. Nothing was written.")
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            self.stdout.write(f"wrote {path}")

    def _validate(self, files: Sequence[Path], **options: Any) -> None:
        found = [f"{path.parent / line.file}:{line.number}: {line.words}"
                 for path in files for line in _faults(path)]  # fmt: skip
        if found:
            raise CommandError("\n".join(found))
        self.stdout.write(f"{len(files)} checked, no faults")

    def _try(
        self, slug: str, operation: str, params: Sequence[str], sandbox: bool, **options: Any
    ) -> None:
        file, proof = _in_force(slug)
        provider = Provider.objects.filter(slug=slug).first()
        own = provider.settings if provider and file.manifest else {}
        question = Question(file, operation, _params(operation, params), own)
        if sandbox:
            trial = try_sandbox(question, [each.example for each in proof.results])
        else:
            secret = file.secret(settings.ENV.provider_key)
            trial = try_live(question, provider=provider, by="manage.py provider", secret=secret)
        told = trial.as_document()
        sent, answer = told["request"], told["response"]
        self.stdout.write(f"{sent['method']} {sent['url']}")
        for name, value in sent["headers"].items():
            self.stdout.write(f"{name}: {value}")
        self.stdout.write(f"{sent['body']}\n" if sent["body"] else "")
        after = "" if trial.milliseconds is None else f" after {trial.milliseconds} ms"
        self.stdout.write(f"{answer['status']}{after}\n{_plain(answer['body'])}\n")
        shown = orjson.dumps(told["canonical"], option=orjson.OPT_INDENT_2)
        self.stdout.write(shown.decode())

    def _test(self, slugs: Sequence[str], **options: Any) -> None:
        failed = 0
        for slug, proof in _proofs(slugs):
            for each in proof.results:
                word = "FAILED" if each.fault else "ok"
                name = each.example.name
                self.stdout.write(f"{slug:<24} {each.example.operation:<28} {name:<32} {word}")
            failed += len(proof.faults)
            for line in proof.faults:
                self.stdout.write(f"  {line}")
        if failed:
            raise CommandError(f"{failed} faults")
        self.stdout.write("no faults")


def _faults(path: Path) -> Iterator[Line]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        yield Line(path.name, 1, f"Cannot be read: {type(error).__name__}.")
        return
    folder = path.parent / "examples" / path.stem
    if broken := list(_broken(folder)):
        yield from broken
        return
    proof = prove(path.stem, text, read_examples(folder))
    if not (path.resolve().parent == FOLDER and proof.file and not proof.file.manifest):
        yield from proof.faults  # but of what ships for AI, whose dialects are tested as code


def _broken(folder: Path) -> Iterator[Line]:
    """Examples that are no JSON objects."""
    for path in sorted(folder.glob("*.json")):
        where = f"examples/{folder.name}/{path.name}"
        try:
            document = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError as error:
            yield Line(where, error.lineno, "No JSON.")
        else:
            if not isinstance(document, dict):
                yield Line(where, 1, "Must be an object.")


def _in_force(slug: str) -> tuple[CatalogueFile, Proof]:
    """The definition that is in force, else the one that ships."""
    active = Definition.objects.filter(slug=slug, state=Definition.State.ACTIVE).first()
    try:
        if active is not None:
            return active.read(), definitions.proof_of(active)
        if _SLUG.fullmatch(slug) and (path := FOLDER / f"{slug}.yaml").is_file():
            file = read_document(path)
            return file, _proof(file)
    except CatalogueError as error:
        raise CommandError(str(error)) from None
    raise CommandError(f"There is no provider {slug}.")


def _proofs(slugs: Sequence[str]) -> Iterator[tuple[str, Proof]]:
    """What ships, AI providers apart, whose dialects are tested as code; and staff's own."""
    shipped = {file.slug: file for file in load_documents()}
    own = _staffs_own()
    unknown = sorted(set(slugs) - set(shipped) - set(own))
    if unknown:
        raise CommandError(f"There is no provider {unknown[0]}.")
    for slug in sorted(slugs or {*own, *(slug for slug, file in shipped.items() if file.manifest)}):
        yield slug, definitions.proof_of(own[slug]) if slug in own else _proof(shipped[slug])


def _staffs_own() -> dict[str, Definition]:
    """What staff wrote and is in force; before there are tables, nothing."""
    kind = {"source": Definition.Source.OPERATOR, "state": Definition.State.ACTIVE}
    try:
        return {row.slug: row for row in Definition.objects.filter(**kind)}
    except (OperationalError, ProgrammingError):
        return {}


def _proof(file: CatalogueFile) -> Proof:
    return prove(file.slug, file.text, read_examples(FOLDER / "examples" / file.slug))


def _params(operation: str, texts: Sequence[str]) -> dict[str, Any]:
    """Raises CommandError, Problem."""
    pairs = [text.partition("=") for text in texts]
    if wrong := next((name for name, mark, _ in pairs if not mark), None):
        raise CommandError(f"{wrong}: write NAME=VALUE.")
    known = registry().get(operation)
    if known is None:
        raise CommandError(f"There is no operation {operation}.")
    if known.kind is Kind.DATA:
        return parse_query(known, [(name, value) for name, _, value in pairs])
    return {name: _value(value) for name, _, value in pairs}


def _value(text: str) -> Any:
    """JSON, or else the text itself."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _plain(text: str) -> str:
    """Lines of text: a provider gives no orders to a terminal."""
    return "".join(each if each.isprintable() or each in "\n\t" else "?" for each in text)


def _words(problem: Problem) -> Iterator[str]:
    yield problem.detail
    for each in problem.extra.get("errors", ()):
        if each["detail"] != problem.detail:
            yield f"{each.get('pointer', '').strip('/') or 'the call'}: {each['detail']}"
