"""How often the master asks whether a worker lives, and what follows for how patient it must be."""

# A worker that has said nothing for PING_S is pinged, and has CALL_S to answer.
PING_S = 1.5
CALL_S = 2.5
# A ping costs the master about half a millisecond: beyond so many workers each is pinged less often.
UNHURRIED = 300
# A worker is given up after so many silent intervals at the earliest: fewer, and one that is merely busy would be.
LEAST_PINGS = 4


def ping_interval_s(workers: int) -> float:
    """How long one of so many workers may say nothing before it is pinged."""
    return PING_S * max(1.0, workers / UNHURRIED)


def suspect_after_s(workers: int) -> float:
    """How long one of so many workers is silent before it is suspect: below 5 s for up to `UNHURRIED`."""
    return ping_interval_s(workers) + CALL_S + 0.5


def least_patience_s(workers: int) -> float:
    """The shortest patience with which no healthy one of so many workers is given up."""
    return LEAST_PINGS * ping_interval_s(workers)
