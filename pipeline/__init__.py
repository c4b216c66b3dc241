"""Tandem: joint search of neural network architectures and training hyperparameters on Slurm."""

__version__ = "0.1.0"
