"""Which model of scikit-learn, with which settings, tells handwritten digits apart best?

Shows: choices, conditions, a forbidden combination; a metric that is maximised; an objective without a loop, whose
budget is the share of the training images, in percent (`search.budget_unit: steps`, a step is one percent). Several
objectives: `--set "search.objectives=[accuracy, kilobytes]"` looks for models that are good and small.
"""

import pickle

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from tandem_trial import Metric, Problem, Trial

SPACE = {
    "model": ["forest", "svm", "neighbours"],
    "trees": {"lower": 5, "upper": 100, "log": True, "when": {"model": "forest"}},
    "features": {"sequence": ["sqrt", "log2", "all"], "when": {"model": "forest"}},
    "penalty": {"lower": 1e-2, "upper": 1e2, "log": True, "when": {"model": "svm"}},
    "kernel": {"choices": ["rbf", "poly", "linear"], "when": {"model": "svm"}},
    "neighbours": {"lower": 1, "upper": 30, "when": {"model": "neighbours"}},
    "scale": {"choices": [False, True]},
}
FORBIDDEN = [{"model": "forest", "scale": True}]  # a tree does not care


def build(trial: Trial):
    if trial["model"] == "forest":
        features = None if trial["features"] == "all" else trial["features"]
        return RandomForestClassifier(trial["trees"], max_features=features, random_state=trial.seed % 2**32)
    if trial["model"] == "svm":
        return SVC(C=trial["penalty"], kernel=trial["kernel"])
    return KNeighborsClassifier(trial["neighbours"])


def objective(trial: Trial) -> dict[str, float]:
    images, labels = load_digits(return_X_y=True)
    if trial["scale"]:
        images = images / 16
    x, x_validation, y, y_validation = train_test_split(images, labels, test_size=0.25, random_state=0)
    count = max(50, round(len(x) * trial.budget / 100))
    model = build(trial).fit(x[:count], y[:count])
    size = len(pickle.dumps(model)) / 1000
    return {"accuracy": model.score(x_validation, y_validation), "images": count, "kilobytes": size}


problem = Problem(
    objective,
    SPACE,
    metric=Metric("accuracy", direction="maximise", percent=True),
    metrics=[Metric("images"), Metric("kilobytes", unit="kB", scale="log", label="size of the model")],
    forbidden=FORBIDDEN,
)
