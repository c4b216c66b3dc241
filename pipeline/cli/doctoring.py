"""Examine the site before the first submission."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from pipeline.cli.app import RESULTS, AsJson, Overrides, Preset, ResultsFolder, app, say


@app.command()
def doctor(
    preset: Preset = "digits",
    overrides: Overrides = None,
    results: ResultsFolder = RESULTS,
    wait: Annotated[float, typer.Option(min=0, help="Seconds that a job on a node may take; 0: no job.")] = 180.0,
    as_json: AsJson = False,
) -> None:
    """Check the site: versions, storage, data, Slurm, network, devices; each with how to mend it. Status 1: a fault."""
    from pipeline.doctor.examination import examine
    from pipeline.doctor.findings import FAULT, conclusion, finding_line
    from pipeline.settings import load_settings

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    findings = []
    for finding in examine(load_settings(preset, overrides or ()), results, wait, tell):
        findings.append(finding)
        if not as_json:
            say(finding_line(finding))
    say(json.dumps([asdict(f) for f in findings], indent=2) if as_json else conclusion(findings))
    if any(f.verdict == FAULT for f in findings):
        raise typer.Exit(1)
