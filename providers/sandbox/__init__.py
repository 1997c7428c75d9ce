"""A real upstream server that plays every provider: deterministic, offline, with faults on demand.

One server, one provider per first path segment: `/{provider}/…`, then the provider's own path.
Test-mode keys are routed to it; the tests and `make run` talk to it. It knows no Django.
"""
