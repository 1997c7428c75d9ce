"""The tenants' own pages: their usage, quotas, requests, keys and people."""
