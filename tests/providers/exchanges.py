"""An example of the catalogue as the request that the adapter makes for it, and taken apart."""

from providers.exchanges import document_of, request_of, taken_apart

__all__ = ["document_of", "request_of", "taken_apart"]
