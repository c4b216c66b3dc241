"""What a Python program that is searched by its command may use, instead of writing files of JSON.

Run by hand it works as well: rows are printed, and there is no checkpoint.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def report(**row: Any) -> None:
    """Add a row to the learning curve: `report(epoch=3, loss=0.52)`.

    Args:
        row: numbers, or what becomes one by `float` (a tensor, a scalar of numpy). `epoch` and `step` count the budget;
            `checkpoint=True` says that the checkpoint's folder is whole at this moment.

    Of several processes (torchrun, srun) the first reports.
    """
    if any(os.environ.get(name, "0") != "0" for name in ("RANK", "SLURM_PROCID")):
        return
    plain = {name: value if isinstance(value, bool | int | float) else float(value) for name, value in row.items()}
    line = json.dumps(plain) + "\n"
    metrics = os.environ.get("TANDEM_METRICS")
    if metrics is None:
        print(line, end="", flush=True)
        return
    with Path(metrics).open("a", encoding="utf-8") as file:
        file.write(line)


def checkpoint_folder() -> Path | None:
    """The folder that is there again, with what was left in it, when the configuration goes on; None: run by hand."""
    folder = os.environ.get("TANDEM_CHECKPOINT")
    return None if folder is None else Path(folder)
