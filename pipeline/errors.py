"""What can go wrong, by kind: the kinds decide who is told, what is retried and what the model learns."""


class TandemError(Exception):
    """An error that a person can mend; its text says what happened, where, and what to do."""


class SettingsError(TandemError):
    """A setting is unknown or wrong; the text names the field, what was given and what is allowed.

    It is one line, whatever was typed: what cannot be printed is escaped, and of a long text both ends are told.
    """

    def __init__(self, text: str) -> None:
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        super().__init__(line if len(line) <= 1_000 else f"{line[:600]} [...] {line[-300:]}")


class RunError(TandemError):
    """A run folder or a run's state does not allow what was asked."""


class SiteError(TandemError):
    """The cluster or the machine cannot do what was asked (partition, account, limits, network)."""


class DataError(TandemError):
    """A data set is missing or corrupt; the text says which file and which command gets it."""


class CrashedError(Exception):
    """The configuration's own fault: the evaluation is recorded as crashed and is bad news for the model.

    Attributes:
        kind: one of `CRASH_KINDS`, a single word for tables.
        reason: what happened, for a person.
    """

    def __init__(self, kind: str, reason: str) -> None:
        if kind not in CRASH_KINDS:
            raise ValueError(f"unknown kind of crash {kind!r}; known: {', '.join(CRASH_KINDS)}")
        super().__init__(f"{kind}: {reason}")
        self.kind = kind
        self.reason = reason


class BrokenError(Exception):
    """The installation's fault (data missing, import error, full disk): every evaluation would fail alike."""


# What CUDA's runtime and libraries and a CPU's allocator say, which raise plain RuntimeErrors.
_OUT_OF_MEMORY = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "can't allocate memory",
)


def says_out_of_memory(error: BaseException) -> bool:
    """Whether an error's text says that memory ran out, of the device or of the host."""
    return any(sign in str(error) for sign in _OUT_OF_MEMORY)


# The last three are of objectives of the user's own, in their own process: it died, it showed no life, it went on
# although it was to stop.
CRASH_KINDS = (
    "too_large", "out_of_memory", "not_finite", "killed_its_worker", "bad_result", "error", "died", "hung",
    "did_not_stop",
)  # fmt: skip
