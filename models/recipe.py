"""Two ways to compute the searched network: Tandem's own, and that of the paper's published code.

They have the same parameters, and the same outputs once they are evaluated with the same weights and statistics, but
for the shortcut. docs/fidelity.md lists every difference with its source.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """What a training step computes, besides the architecture.

    Attributes:
        softmax_weights: Shake-Shake's weights are the softmax of U(0, 1), close to equal shares; else uniform on the
            simplex (Gastaldi 2017).
        gate_per_batch: ShakeDrop opens or closes its gate for a whole batch; else for each image.
        shifted_path_has_relu: the shortcut's second path begins with the block's ReLU, as its first (Gastaldi 2017).
        branch_momentum: weight of a batch in the running statistics of a block with several branches.
    """

    softmax_weights: bool
    gate_per_batch: bool
    shifted_path_has_relu: bool
    branch_momentum: float


DEFAULT = "default"
PAPER_CODE = "paper-code"
RECIPES = {
    DEFAULT: Recipe(
        softmax_weights=False, gate_per_batch=False, shifted_path_has_relu=True, branch_momentum=0.1
    ),
    # The published code runs such a block's branches twice on each batch, and both update the statistics with what they
    # saw, which is the same: 1 - 0.9^2.
    PAPER_CODE: Recipe(
        softmax_weights=True, gate_per_batch=True, shifted_path_has_relu=False, branch_momentum=0.19
    ),
}  # fmt: skip
