"""What every store of ours may be."""


class StoreAway(Exception):
    """A store did not answer in time, or is not there. Its message names only the kind of
    fault: no address, no secret."""
