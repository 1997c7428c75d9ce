"""Which models are one, by their ids."""

from __future__ import annotations


def same_vectors(model: str, other: str) -> bool:
    """Whether two providers' models make vectors that can be compared: those of one name, whoever
    is said before it (`openai/text-embedding-3-small` at a service that resells it)."""
    return _name(model) == _name(other)


def vectors_clash(model: str, other: str) -> str:
    """Why a route of embeddings may not lead to both; "" if it may."""
    if same_vectors(model, other):
        return ""
    return (
        f"{other} is another model than {model}, and vectors of two cannot be compared. "
        "Give it a route of its own."
    )


def _name(model: str) -> str:
    return model.rpartition("/")[2].lower()
