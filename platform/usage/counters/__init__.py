"""The counters: rate limits, quotas and concurrency slots, behind one small interface with two
implementations that pass one suite (tests/usage/counters)."""
