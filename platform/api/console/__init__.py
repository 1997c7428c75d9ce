"""Pages of the admin that need the whole system: what a tenant uses, and looking as a member."""
