"""Start a run's workers and masters: as Slurm jobs or as processes of this machine."""
