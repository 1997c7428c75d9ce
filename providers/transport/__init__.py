"""How bytes reach a provider: a small interface, and our own HTTP/1.1 client behind it.

What the data path needs and no more: one request, a status, headers, and the body as a whole
or chunk by chunk, each within its own time. Redirects are never followed, proxies from the
environment never used, compressed answers never asked for, and private addresses are refused
at the moment of connecting unless the provider's row allows them.
"""

from providers.transport.http1 import Http1Transport
from providers.transport.interface import Response, Transport, TransportFault

__all__ = ["Http1Transport", "Response", "Transport", "TransportFault"]
