"""The signals that end an allocation, and how one is kept that comes before its handler: it would end the process.

Imports nothing that takes time: a master on a cold file system takes a minute to import the rest.
"""

import os
import signal

# Slurm's and submitit's warnings before the time limit; NCCL may use USR1, so submitit's default is USR2.
WARNING_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


# Names of signals that slurm/environment.sh kept while it made the shell ready, in their order.
KEPT = "TANDEM_SIGNALS"


def hold_signals() -> None:
    """Let signals wait until `pipeline.cluster.allocation.Allocation` listens, also across an `exec`.

    All but the interrupt: a person who presses Ctrl-C does not wait for imports. Those that the shell kept wait, too.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {*WARNING_SIGNALS, *END_SIGNALS} - {signal.SIGINT})
    for name in os.environ.pop(KEPT, "").split():
        os.kill(os.getpid(), signal.Signals[name])
