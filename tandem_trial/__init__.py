"""What a problem of one's own imports: `Problem`, `Metric`, and the `Trial` that its objective is given; and what a
program that is searched by its command may use: `report` and `checkpoint_folder`.

Standard library only: it runs in the interpreter that the user names, beside whatever is installed there.
"""

from tandem_trial.problem import Metric, Problem
from tandem_trial.program import checkpoint_folder, report
from tandem_trial.trial import Trial, TrialError

__all__ = ["Metric", "Problem", "Trial", "TrialError", "checkpoint_folder", "report"]
