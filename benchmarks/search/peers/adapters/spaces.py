"""The described space in ConfigSpace's terms, for the peers that use it."""


def config_space(description, seed):
    from ConfigSpace import Categorical, ConfigurationSpace, Float, InCondition, Integer

    space = ConfigurationSpace(seed=seed % 2**32)
    for h in description:
        if h["kind"] == "categorical":
            made = Categorical(h["name"], h["choices"])
        else:
            kind = Integer if h["kind"] == "int" else Float
            made = kind(h["name"], (h["lower"], h["upper"]), log=h["log"])
        space.add(made)
        for parent, choices in h.get("active_if", {}).items():
            space.add(InCondition(made, space[parent], choices))
    return space


def active(description, values):
    """Without what a condition switches off; parents stand before their children."""
    kept = {}
    for h in description:
        if all(kept.get(parent) in choices for parent, choices in h.get("active_if", {}).items()):
            kept[h["name"]] = values[h["name"]]
    return kept
