"""The command line, `tandem`: wires everything, decides nothing.

Whatever takes long to import is imported by the command that needs it, so that `tandem --help` answers at once.
"""

import sys

from pipeline.cluster.early_signals import hold_signals

if sys.argv[1:2] in (["run-master"], ["run-worker"]):  # before anything else is imported
    hold_signals()

from pipeline.cli import doctoring, exporting, looking, pages, planning, retraining, runs
from pipeline.cli.app import app, main, put_in_order

# Each of these files adds its commands to `app` when it is imported.
COMMANDS = (runs, retraining, looking, pages, planning, doctoring, exporting)
put_in_order()

__all__ = ["COMMANDS", "app", "main"]
