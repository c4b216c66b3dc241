"""Serve one peer's method over JSON lines on standard input and output; runs in the peer's own environment.

The first line starts: {"method": "optuna.tpe", "space": [...], "budgets": [...], "eta": 3, "seed": 0, "workers": 1}.
Then {"op": "ask"} is answered by {"trial": n, "values": {...}, "budget": b} or {"wait": true}, and
{"op": "tell", "trial": n, "loss": x or null, "cost_s": s, "curve": [[budget, loss], ...]} by {}. Every answer has
`cpu_s`: processor seconds of this process for it. An adapter is a module `adapter_PEER` with a class `Adapter(start)`
that has `ask() -> (values, budget, handle) or None` and `tell(handle, loss, cost_s, curve)`.
"""

import importlib
import json
import os
import sys
import time
import warnings


def main():
    # The packages print; standard output is the protocol's alone.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    start = json.loads(sys.stdin.readline())
    peer = start["method"].split(".")[0]
    adapter = importlib.import_module(f"adapter_{peer}").Adapter(start)
    handles = {}
    print(json.dumps({"cpu_s": 0.0}), file=out)
    for line in sys.stdin:
        request = json.loads(line)
        began = time.process_time()
        answer = {}
        if request["op"] == "ask":
            asked = adapter.ask()
            if asked is None:
                answer = {"wait": True}
            else:
                values, budget, handle = asked
                trial = len(handles)
                handles[trial] = handle
                answer = {"trial": trial, "values": plain(values), "budget": float(budget)}
        else:
            adapter.tell(handles[request["trial"]], request["loss"], request["cost_s"], request["curve"])
        print(json.dumps({**answer, "cpu_s": time.process_time() - began}), file=out)


def plain(values):
    """Values without numpy's types."""
    return {str(k): plain_value(v) for k, v in values.items() if v is not None}


def plain_value(value):
    value = value.item() if hasattr(value, "item") else value
    return str(value) if isinstance(value, str) else value


if __name__ == "__main__":
    main()
