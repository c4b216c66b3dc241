"""The boards that there are."""

from enum import StrEnum


class Board(StrEnum):
    """A program whose files can be written; its package is an extra of the same name."""

    TENSORBOARD = "tensorboard"
    MLFLOW = "mlflow"
    WANDB = "wandb"
