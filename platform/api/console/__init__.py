"""The switchboard in the admin with what only this layer knows: figures, gateways, prices."""
