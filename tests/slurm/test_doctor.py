"""Doctor on a real cluster: a sound one, and faults that only a compute node can tell."""

from __future__ import annotations

import json
from typing import Any

from tests.slurm.hosts import NETWORK
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
    found = examined(shell, slurm__partition="nowhere")
    assert "there is no partition 'nowhere'" in found["slurm: the request"]
    assert sum(said.startswith("fault") for said in found.values()) == 1, "one cause is told once"


def test_a_node_that_the_master_cannot_call_back_and_that_has_no_gpu_is_named(shell: Shell) -> None:
    """A firewall between the login node and the nodes lets calls through in one direction only."""
    ports = "47000-47099"
    firewall = ["to", f"{NETWORK}.0/24", "ipproto", "tcp", "dport", ports, "unreachable"]
    login = shell.cluster.hosts["login"]
    login.run_network("ip", "rule", "add", "priority", "10", *firewall)
    try:
        found = examined(shell, network__ports=f"[{ports.replace('-', ', ')}]", training__device="cuda")
    finally:
        login.run_network("ip", "rule", "del", "priority", "10")
    assert found["network to the master"].startswith("ok"), found
    assert found["network from the master"].startswith(f"fault: cannot be reached at {NETWORK}.1"), found
    assert found["devices"].startswith("fault: "), found


def test_a_configuration_that_may_disappoint_is_named_and_a_search_needs_no_accounting(shell: Shell) -> None:
    off = {"AccountingStorageType": "accounting_storage/none", "AccountingStorageTRES": "cpu"}  # GPUs need a database
    worse = {**off, "JobRequeue": "0", "PreemptMode": "SUSPEND,GANG"}
    with shell.cluster.configured(**worse):
        shell.cluster.wait_for_gpus()
        found = examined(shell, wait_s=0, workers__count=5)
        run = shell.submit_at_gate(workers__count=1, search__iterations=1)
        run.let_through()
        run.wait_for_end()
        run.assert_each_evaluation_has_one_result()
    assert found["slurm: accounting"] == "warning: off (accounting_storage/none)"
    assert found["slurm: arrays"].startswith("warning: MaxArraySize 4: 5 workers"), found
    assert found["slurm: requeue"].startswith("warning: JobRequeue is 0")
    assert found["slurm: preemption"].startswith("warning: PreemptMode"), found
