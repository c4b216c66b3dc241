"""Who runs this process: a user of a container may have a number and no name."""

from __future__ import annotations

import os
import pwd


def user_name(uid: int | None = None) -> str:
    """The name of a user (default: of this process), or the number where the system knows no name."""
    number = os.getuid() if uid is None else uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
