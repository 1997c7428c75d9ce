"""Writes the pages of docs/providers/ that are made from the catalogue (catalogue/pages.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from providers.catalogue import load_documents
from providers.catalogue.pages import MARK, pages

FOLDER = Path(__file__).resolve().parents[4] / "docs" / "providers"


class Command(BaseCommand):
    help = "Writes the pages of docs/providers/ from the catalogue."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        made = pages(load_documents())
        for path in written(FOLDER):
            if path.name not in made:
                path.unlink()
        for name, text in made.items():
            (FOLDER / name).write_text(text, "utf-8")
        self.stdout.write(f"Wrote {len(made)} pages.")


def written(folder: Path) -> list[Path]:
    """The pages that this command made."""
    return [path for path in folder.glob("*.md") if path.read_text("utf-8").startswith(MARK)]
