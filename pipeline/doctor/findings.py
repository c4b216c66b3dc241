"""What a check has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OK, WARNING, FAULT = "ok", "warning", "fault"
SIGNS = {OK: "ok  ", WARNING: "warn", FAULT: "FAIL"}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: its name, "storage: atomic rename".
        verdict: "ok", "warning" (works, and may disappoint) or "fault" (a search would fail).
        found: what was found, with figures.
        mend: how to mend it; "" when there is nothing to mend.
    """

    check: str
    verdict: str
    found: str
    mend: str = ""


def finding_line(finding: Finding) -> str:
    """A finding as a person reads it."""
    mend = f"\n       To mend: {finding.mend}" if finding.mend else ""
    return f"{SIGNS[finding.verdict]}  {finding.check}: {finding.found}{mend}"


def conclusion(findings: Sequence[Finding]) -> str:
    """All findings in a sentence."""
    faults, warnings = (sum(f.verdict == verdict for f in findings) for verdict in (FAULT, WARNING))
    if faults:
        these = "this is" if faults == 1 else "they are"
        return f"{faults} of {len(findings)} checks failed. A search would fail here until {these} mended."
    return f"{len(findings)} checks, none failed" + (f", {warnings} with a warning." if warnings else ".")
