"""A small recurrent network in PyTorch that learns to add two numbers, digit by digit, lowest first.

Shows: budgets in steps, a learning curve, validation that is not charged, and a checkpoint that training goes on from.
"""

import torch
import torch.nn.functional as F
from torch import nn

from tandem_trial import Metric, Problem, Trial

DIGITS = 5
SPACE = {
    "learning_rate": {"lower": 1e-4, "upper": 1e-1, "log": True},
    "width": {"lower": 8, "upper": 64, "log": True},
    "cell": ["gru", "lstm"],
    "batch_size": {"sequence": [16, 32, 64, 128]},
    "optimiser": ["sgd", "adam"],
    "momentum": {"lower": 0.0, "upper": 0.99, "when": {"optimiser": "sgd"}},
}


class Adder(nn.Module):
    def __init__(self, cell: str, width: int) -> None:
        super().__init__()
        self.network = (nn.GRU if cell == "gru" else nn.LSTM)(20, width, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, digits: torch.Tensor) -> torch.Tensor:
        return self.head(self.network(F.one_hot(digits, 10).flatten(2).float())[0])


def sums(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of digits (count, DIGITS + 1, 2), lowest first, and the digits of their sums (count, DIGITS + 1)."""
    a, b = torch.randint(10**DIGITS, (2, count), generator=generator)
    digits = [torch.stack([n // 10**i % 10 for i in range(DIGITS + 1)], 1) for n in (a, b, a + b)]
    return torch.stack(digits[:2], 2), digits[2]


def objective(trial: Trial) -> None:
    torch.manual_seed(trial.seed)
    model = Adder(trial["cell"], trial["width"]).to(trial.device)
    if trial["optimiser"] == "adam":
        optimiser = torch.optim.Adam(model.parameters(), trial["learning_rate"])
    else:
        optimiser = torch.optim.SGD(model.parameters(), trial["learning_rate"], momentum=trial["momentum"])
    if saved := trial.load():
        state = torch.load(saved, map_location=trial.device)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
    held_out = [t.to(trial.device) for t in sums(500, torch.Generator().manual_seed(0))]
    while not trial.should_stop():
        # Seeded by the step, so that an interrupted training goes on exactly as it would have.
        generator = torch.Generator().manual_seed(trial.seed % 2**40 + trial.steps)
        x, y = (t.to(trial.device) for t in sums(trial["batch_size"], generator))
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        trial.step()
        if trial.steps % 20 == 0:
            with trial.validating(), torch.no_grad():
                accuracy = (model(held_out[0]).argmax(2) == held_out[1]).float().mean()
            trial.report(accuracy=accuracy, loss=loss)
        if trial.should_save():
            save(trial, model, optimiser)
    save(trial, model, optimiser)


def save(trial: Trial, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    with trial.save() as path:
        torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict()}, path)


problem = Problem(
    objective,
    SPACE,
    metric=Metric("accuracy", direction="maximise", percent=True, label="accuracy per digit"),
    metrics=[Metric("loss", unit="nats", scale="log")],
)
