"""The described space in Syne Tune's terms."""

from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform


def domain(h):
    if h["kind"] == "categorical":
        return choice(h["choices"])
    kinds = {("float", False): uniform, ("float", True): loguniform, ("int", False): randint, ("int", True): lograndint}
    return kinds[h["kind"], h["log"]](h["lower"], h["upper"])
