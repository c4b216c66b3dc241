"""Doctor on a real cluster: a sound one, and faults that only a compute node can tell."""

from __future__ import annotations

import json
from typing import Any

from tests.slurm.runs import Shell


def examined(shell: Shell, **changed: Any) -> dict[str, str]:
    """The verdict of every check; those of the node under their own names."""
    text = shell.tandem("doctor", "--json", "--wait", "120", *shell.settings(**changed), check=False)
    findings = json.loads(text[text.index("[\n") : text.rindex("]") + 1])
    return {f["check"].partition(", ")[2] or f["check"]: f"{f['verdict']}: {f['found']}" for f in findings}


def test_a_sound_cluster_is_reached_both_ways_and_its_node_trains(shell: Shell) -> None:
    found = examined(shell)
    for check in ("network to the master", "network from the master", "devices", "clock", "storage: new files"):
        assert found[check].startswith("ok"), found
    assert found["slurm: accounting"].startswith("ok")
    assert not any(said.startswith("fault") for said in found.values()), found


def test_a_master_that_nodes_cannot_reach_and_a_partition_that_is_not_there_are_named(shell: Shell) -> None:
    found = examined(shell, network__address="127.0.0.1")
    assert found["network to the master"].startswith("fault")
    assert "cannot reach 127.0.0.1" in found["network to the master"]
    found = examined(shell, slurm__partition="nowhere")
    assert "there is no partition 'nowhere'" in found["slurm: the request"]
