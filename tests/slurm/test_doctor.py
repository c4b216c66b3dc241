"""Doctor on a real cluster: a sound one, and faults that only a compute node can tell."""

from __future__ import annotations

import json
from typing import Any

from tests.slurm.runs import Shell


def examined(shell: Shell, wait_s: int = 180, **changed: Any) -> dict[str, str]:
    """The verdict of every check; those of the node under their own names."""
    text = shell.tandem("doctor", "--json", "--wait", str(wait_s), *shell.settings(**changed), check=False)
    findings = json.loads(text[text.index("[\n") : text.rindex("]") + 1])
    # The login node has a clock, too: its checks come first.
    return {f["check"].partition(", ")[2] or f["check"]: f"{f['verdict']}: {f['found']}" for f in findings}


def test_a_sound_cluster_is_reached_both_ways_and_its_node_trains(shell: Shell) -> None:
    found = examined(shell)
    for check in ("network to the master", "network from the master", "devices", "clock", "storage: new files"):
        assert found[check].startswith("ok"), found
    assert found["slurm: accounting"].startswith("ok")
    assert not any(said.startswith("fault") for said in found.values()), found


def test_faults_of_nodes_are_named(shell: Shell) -> None:
    """One job with two of them, one that fails and one that does not start: a sound job is the test above."""
    (shell.home / "sitecustomize.py").write_text("import time\nright = time.time\ntime.time = lambda: right() + 90\n")
    late = [f"export PYTHONPATH={shell.home}:$PYTHONPATH"]
    found = examined(shell, network__address="127.0.0.1", slurm__setup=late)
    assert found["network to the master"].startswith("fault")
    assert "cannot reach 127.0.0.1" in found["network to the master"]
    assert found["clock"].startswith("warning: +90")
    found = examined(shell, slurm__setup=["echo no module called python >&2", "exit 1"])
    assert found["node"].startswith("fault")
    assert "no module called python" in found["node"]
    found = examined(shell, wait_s=3, slurm__extra="{begin: now+3600}")
    assert found["node"].startswith("warning")
    assert "PENDING" in found["node"]
    found = examined(shell, wait_s=0, slurm__partition="nowhere")
    assert "there is no partition 'nowhere'" in found["slurm: the request"]
