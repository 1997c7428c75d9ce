"""Pages of the admin that need the whole system: how providers stand, who would serve a call, what
a tenant uses, and looking as a member."""
