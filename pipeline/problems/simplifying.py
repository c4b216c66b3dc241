"""What becomes of conditions and forbidden clauses where hyperparameters were narrowed: in ConfigSpace's own form.

A condition that always holds is left out. A hyperparameter whose condition can never hold any more goes, and so does
what depended on it. A forbidden clause that can no longer occur is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Plain = dict[str, Any]


def simplify(space: Plain) -> Plain:
    """The space without what its hyperparameters' values have decided."""
    known = {h["name"]: h for h in space["hyperparameters"]}
    conditions = {c["child"]: c for c in space["conditions"]}
    while True:
        simplified = {child: _condition(c, known, set(conditions)) for child, c in conditions.items()}
        never = {child for child, c in simplified.items() if c is False or child not in known}
        conditions = {child: c for child, c in simplified.items() if isinstance(c, dict) and child in known}
        known = {name: h for name, h in known.items() if name not in never}
        if not never:
            break
    clauses = [_clause(clause, known) for clause in space["forbiddens"]]
    return {
        **space,
        "hyperparameters": list(known.values()),
        "conditions": list(conditions.values()),
        "forbiddens": [clause for clause in clauses if isinstance(clause, dict)],
    }


def _legal(h: Plain) -> list[Any] | None:
    """The values that are left; None: a range."""
    if "value" in h:
        return [h["value"]]
    legal: list[Any] | None = h.get("choices") or h.get("sequence")
    return legal


def _condition(condition: Plain, known: Mapping[str, Plain], conditional: set[str]) -> Plain | bool:
    """What is left of a condition: itself with the values that are left, or whether it holds always or never.

    Args:
        conditional: hyperparameters that may be absent, so that "any of its values" is no certainty.
    """
    if "conditions" in condition:
        parts = [_condition(part, known, conditional) for part in condition["conditions"]]
        decides = bool(condition["type"] == "OR")  # one part that holds decides an OR, one that does not an AND
        if any(part is decides for part in parts):
            return decides
        open_parts = [part for part in parts if isinstance(part, dict)]
        if len(open_parts) < 2:
            return open_parts[0] if open_parts else not decides
        return {**condition, "conditions": open_parts}
    parent = known.get(condition["parent"])
    if parent is None:
        return False  # the parent itself is never active
    legal, may_be_absent = _legal(parent), condition["parent"] in conditional
    match condition["type"]:
        case "EQ" | "IN":
            wanted = list(condition["values"]) if condition["type"] == "IN" else [condition["value"]]
            left = wanted if legal is None else [value for value in wanted if value in legal]
            if not left:
                return False
            if legal is not None and set(left) == set(legal) and not may_be_absent:
                return True
            one = {"child": condition["child"], "parent": condition["parent"]}
            return {"type": "EQ", **one, "value": left[0]} if len(left) == 1 else {"type": "IN", **one, "values": left}
        case "GT" | "LT" if "value" in parent or "lower" in parent:
            low, high = (parent["value"],) * 2 if "value" in parent else (parent["lower"], parent["upper"])
            limit, above = condition["value"], condition["type"] == "GT"
            if (low > limit if above else high < limit) and not may_be_absent:
                return True
            if high <= limit if above else low >= limit:
                return False
    return condition


def _clause(clause: Plain, known: Mapping[str, Plain]) -> Plain | None:
    """What is left of a forbidden clause; None: it cannot occur."""
    if "clauses" in clause:
        parts = [_clause(part, known) for part in clause["clauses"]]
        return None if any(part is None for part in parts) else {**clause, "clauses": parts}
    if "name" not in clause:  # a relation between two
        return clause if {clause.get("left"), clause.get("right")} <= set(known) else None
    h = known.get(clause["name"])
    if h is None:
        return None
    legal = _legal(h)
    wanted = list(clause["values"]) if clause["type"] == "IN" else [clause["value"]]
    left = wanted if legal is None else [value for value in wanted if value in legal]
    if not left:
        return None
    if len(left) == 1:
        return {"type": "EQUALS", "name": clause["name"], "value": left[0]}
    return {"type": "IN", "name": clause["name"], "values": left}
