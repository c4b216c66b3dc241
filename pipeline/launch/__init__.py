"""Start a run's workers and masters: as Slurm jobs or as processes of this machine.

`choice.backend_for` decides which, once; everybody else holds the `backend.Backend` that it gives.
"""
