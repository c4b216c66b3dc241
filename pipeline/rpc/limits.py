"""What the operating system grants a process that many others connect to: open files and threads."""

from __future__ import annotations

import errno
import resource

# Files that connections leave to the process itself: for its lease, results and status, and for what it starts.
RESERVED_FILES = 64
MOST_FILES = 65536


def raise_limits() -> None:
    """Allow this process all the open files and threads that it may have.

    A worker takes three of each of its master: two connections that it makes, and the master's own to it.
    """
    for kind, most in ((resource.RLIMIT_NOFILE, MOST_FILES), (resource.RLIMIT_NPROC, resource.RLIM_INFINITY)):
        soft, hard = resource.getrlimit(kind)
        wanted = most if hard == resource.RLIM_INFINITY else hard
        if soft != resource.RLIM_INFINITY and (wanted == resource.RLIM_INFINITY or soft < wanted):
            resource.setrlimit(kind, (wanted, hard))


def is_shortage(error: BaseException) -> bool:
    """Whether nothing could be opened because this process, or its machine, has as many files open as it may."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def lacks_files(descriptor: int) -> str:
    """Why what has just been opened should be closed again: those that are left are the process's own; "": it need not.

    Args:
        descriptor: its number. The system gives the lowest one that is free.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY or descriptor < limit - min(RESERVED_FILES, limit // 4):
        return ""
    return f"nearly all of {limit} open files are in use, so that no more connections are taken: raise `ulimit -n`"
