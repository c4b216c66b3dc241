"""Every fault that doctor knows, provoked once and named by it; and a machine on which there is none."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cluster import slurm
from pipeline.doctor import cluster, machine
from pipeline.doctor.examination import examine
from pipeline.doctor.findings import FAULT, OK, WARNING, Finding, conclusion, finding_line
from pipeline.doctor.roundtrip import call_back, greet, listen
from pipeline.errors import SiteError
from pipeline.settings import Settings, load_settings
from pipeline.training.speed import DeviceSpeed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def digits(*overrides: str) -> Settings:
    return load_settings("digits", ["workers.where=local", "training.device=cpu", "training.threads=1", *overrides])


def only(findings: Sequence[Finding], check: str) -> Finding:
    (found,) = (f for f in findings if f.check == check)
    return found


def test_versions_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_versions()[0].verdict == OK
    wanted = ["numpy>=99", "no-such-package>=1", "pytest>=1; extra == 'dev'"]
    monkeypatch.setattr(machine.metadata, "requires", lambda name: wanted)
    found = machine.check_versions()[0]
    assert found.verdict == FAULT
    assert "numpy" in found.found
    assert ">=99 is required" in found.found
    assert "no-such-package is missing" in found.found
    assert "pytest" not in found.found
    monkeypatch.setattr(machine.sys, "version_info", (3, 10, 1))
    assert "3.11 to 3.13" in machine.check_versions()[0].mend


def test_a_folder_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (found,) = machine.check_storage(tmp_path / "file" / "results")
    assert found.verdict == FAULT
    assert "RESULTS=" in found.mend


def test_storage_that_is_sound_leaves_nothing_behind(tmp_path: Path) -> None:
    findings = machine.check_storage(tmp_path)
    assert {f.check for f in findings} == {
        "storage: atomic rename", "storage: exclusive creation", "storage: fsync", "storage: room",
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_storage_that_breaks_its_promises_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open
    monkeypatch.setattr(machine.os, "open", lambda path, flags: real_open(path, flags & ~os.O_EXCL))
    monkeypatch.setattr(machine, "publish_text", lambda path, text: path.write_text("first"))
    monkeypatch.setattr(machine.os, "fsync", lambda fd: time.sleep(0.02))
    monkeypatch.setattr(machine, "SLOW_FSYNC_S", 0.01)
    full = SimpleNamespace(f_bavail=10, f_frsize=4096, f_favail=3, f_files=100)
    monkeypatch.setattr(machine.os, "statvfs", lambda path: full)
    findings = machine.check_storage(tmp_path)
    assert only(findings, "storage: atomic rename").verdict == FAULT
    assert only(findings, "storage: exclusive creation").verdict == FAULT
    assert only(findings, "storage: fsync").verdict == WARNING
    assert only(findings, "storage: room").verdict == WARNING


def test_data_that_is_missing_is_named_with_the_command_that_gets_it(tmp_path: Path) -> None:
    (found,) = machine.check_data(digits(f"data.root={tmp_path}"))
    assert found.verdict == WARNING
    assert "tandem data digits" in found.found


def in_process(
    code: str,
    *arguments: str,
    unshared: bool = False,
    limits: dict[int, tuple[int, int]] | None = None,
    **variables: str,
) -> list[Finding]:
    """The findings that a check makes in a process of its own, under limits and an environment of its own."""
    program = f"import json, sys; from dataclasses import asdict; {code}; print(json.dumps([asdict(f) for f in found]))"

    def limit() -> None:
        for which, values in (limits or {}).items():
            resource.setrlimit(which, values)

    command = [sys.executable, "-c", program, *arguments]
    path = os.pathsep.join([*variables.pop("first", "").split(), str(ROOT)])
    alone = ["unshare", "-m", "--propagation", "private"] if unshared else []
    done = subprocess.run(
        [*alone, *command], capture_output=True, text=True, cwd=ROOT, preexec_fn=limit, check=False,
        env={**os.environ, "PYTHONPATH": path, **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [Finding(**finding) for finding in json.loads(done.stdout.splitlines()[-1])]


def test_limits_of_a_login_node_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {resource.RLIMIT_NOFILE: (256, 512), resource.RLIMIT_CPU: (3600, 3600)}
    findings = in_process("from pipeline.doctor.machine import check_limits; found = check_limits()", limits=few)
    assert only(findings, "limits: open files").verdict == WARNING
    assert only(findings, "limits: CPU time").found == "a process may take 3,600 s of CPU time"
    monkeypatch.setattr("pipeline.cluster.site.logout_warning", lambda: "processes end at logout")
    warned = [f for f in machine.check_limits() if f.check == "limits: logging out"]
    assert [f.verdict for f in warned] == [WARNING]
    assert all("MASTER=slurm" in f.mend for f in [*findings, *warned] if f.verdict == WARNING)
    monkeypatch.setattr(machine.resource, "getrlimit", lambda which: (1024, resource.RLIM_INFINITY))
    assert [only(machine.check_limits(), f"limits: {kind}").verdict for kind in ("open files", "threads")] == [OK, OK]
    monkeypatch.setattr(machine.resource, "getrlimit", lambda which: (256, 512))
    threads = only(machine.check_limits(), "limits: threads")
    assert (threads.verdict, threads.found) == (WARNING, "at most 512 processes and threads of yours")


def test_packages_of_other_versions_are_named_by_a_real_environment(tmp_path: Path) -> None:
    stale = tmp_path / "numpy-1.26.0.dist-info"
    stale.mkdir()
    (stale / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.26.0\n")
    code = "from pipeline.doctor.machine import check_versions; found = check_versions()"
    (found,) = in_process(code, first=str(tmp_path))
    assert (found.verdict, found.found) == (FAULT, "numpy 1.26.0 is installed, >=2 is required")


def test_a_torchvision_of_another_build_is_named(tmp_path: Path) -> None:
    other = tmp_path / "torchvision-0.29.1+xpu.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.29.1+xpu\n")
    findings = in_process(
        "from pipeline.doctor.machine import check_versions; found = check_versions()", first=str(tmp_path)
    )
    assert "torchvision 0.29.1+xpu are different builds" in only(findings, "versions: builds").found
    assert [f.verdict for f in findings] == [OK, WARNING]


def test_a_clock_that_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time\nright = time.time\ntime.time = lambda: right() + 120\n")
    code = (
        "from pathlib import Path; from pipeline.doctor import machine; found = machine.check_clock(Path(sys.argv[1]))"
    )
    (found,) = in_process(code, str(tmp_path), first=str(tmp_path))
    assert (found.verdict, found.found) == (WARNING, "+120.0 s from the file server's")
    assert machine.check_clock(tmp_path)[0].verdict == OK
    assert not list(tmp_path.glob(".clock*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")
def test_a_small_disk_and_one_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    code = (
        "import subprocess; from pathlib import Path; from pipeline.doctor.machine import check_storage; "
        "subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=256k,nr_inodes=50', 'none', sys.argv[1]], check=True); "
        "found = check_storage(Path(sys.argv[1])); "
        "subprocess.run(['mount', '-o', 'remount,ro', sys.argv[1]], check=True); "
        "found += check_storage(Path(sys.argv[1]) / 'results')"
    )
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no namespaces here")
    findings = in_process(code, str(tmp_path), unshared=True)
    assert only(findings, "storage: room").verdict == WARNING
    assert only(findings, "storage: atomic rename").verdict == OK
    refused = only(findings, "storage")
    assert (refused.verdict, "Read-only file system" in refused.found) == (FAULT, True)


def test_an_address_on_which_a_master_cannot_listen_is_a_fault(tmp_path: Path) -> None:
    findings = list(examine(digits("network.address=203.0.113.1"), tmp_path, 0.0))
    assert only(findings, "network").verdict == FAULT
    assert "203.0.113.1" in only(findings, "network").found


def test_a_gpu_that_is_not_there_is_a_fault_and_a_cpu_trains_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (found,) = machine.check_devices(digits("training.device=cuda"))
    assert found.verdict == FAULT
    monkeypatch.setattr("pipeline.training.speed.STEPS_S", 0.0)
    (found,) = machine.check_devices(digits())
    assert found.verdict == OK
    assert "images/s" in found.found


def test_a_device_that_trains_slowly_is_not_said_to_train_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [DeviceSpeed("CPU", speed, "a network") for speed in (0.314, 4321.0)]
    monkeypatch.setattr("pipeline.training.speed.device_speeds", lambda settings: slow)
    said = [f.found for f in machine.check_devices(digits())]
    assert said == ["CPU: 0.31 images/s (a network)", "CPU: 4,321 images/s (a network)"]


def test_two_processes_call_each_other_and_a_way_that_is_blocked_is_told_with_its_address(tmp_path: Path) -> None:
    server, uri = listen(tmp_path / "tls", "127.0.0.1", None)
    try:
        program = "import sys; from pathlib import Path; from pipeline.doctor.roundtrip import greet; "
        program += "print(greet(Path(sys.argv[1]), sys.argv[2], None))"
        command = [sys.executable, "-c", program, str(tmp_path / "tls"), uri]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.strip() == "('', '')"
        assert call_back("PYRO:tandem.doctor.partner@127.0.0.1:9") == "127.0.0.1:9: connection refused"
    finally:
        server.shutdown()
    there, _ = greet(tmp_path / "tls", uri, None)
    assert there.startswith("127.0.0.1 cannot reach 127.0.0.1:")
    assert there.endswith("connection refused")


@pytest.mark.parametrize(
    ("name", "configuration", "verdict"),
    [
        ("slurm: accounting", {"AccountingStorageType": "(null)"}, WARNING),
        ("slurm: accounting", {"AccountingStorageType": "accounting_storage/slurmdbd"}, OK),
        ("slurm: requeue", {"JobRequeue": "0"}, WARNING),
        ("slurm: requeue", {"JobRequeue": "1"}, OK),
        ("slurm: preemption", {"PreemptMode": "SUSPEND,GANG"}, WARNING),
        ("slurm: preemption", {"PreemptMode": "REQUEUE"}, OK),
        ("slurm: arrays", {"MaxArraySize": "4"}, WARNING),
        ("slurm: arrays", {"MaxArraySize": "1001"}, OK),
    ],
)
def test_what_a_clusters_configuration_means_is_said(
    monkeypatch: pytest.MonkeyPatch, name: str, configuration: dict[str, str], verdict: str
) -> None:
    monkeypatch.setattr(slurm, "configuration", lambda: configuration)
    found = only(cluster.check_configuration(digits("workers.count=10")), name)
    assert found.verdict == verdict
    assert verdict == OK or found.mend or "several arrays" in found.found


def test_a_request_that_the_site_refuses_is_a_fault_with_the_sites_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(settings: Settings, folder: Path) -> list[str]:
        raise SiteError("slurm.partition: there is no partition 'gpu'. Partitions: cpu.")

    monkeypatch.setattr(cluster.site, "check_site", refuse)
    (found,) = cluster.check_request(digits(), tmp_path)
    assert (found.verdict, "Partitions: cpu" in found.found) == (FAULT, True)


class HereSlurm:
    """Slurm that runs a job's script on this machine, or lets it wait."""

    def __init__(self, starts: bool, state: str = "PENDING (Resources)") -> None:
        self.starts = starts
        self.state = state
        self.asked: list[tuple[str, ...]] = []
        self.jobs: list[subprocess.Popen[bytes]] = []

    def __call__(self, *command: str) -> str:
        self.asked.append(command)
        if command[0] == "sbatch" and self.starts:
            log = Path(next(c.partition("=")[2] for c in command if c.startswith("--output")))
            with log.open("w") as out:
                self.jobs.append(subprocess.Popen(["bash", command[-1]], stdout=out, stderr=out))
        return {"sbatch": "12;cluster\n", "squeue": f"{self.state}\n"}.get(command[0], "")


@pytest.fixture
def node_settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(cluster, "address_towards_nodes", lambda settings: "127.0.0.1")
    monkeypatch.chdir(ROOT)
    return digits("slurm.partition=gpu", "slurm.setup=['export WORD=set']", "workers.where=slurm")


def test_a_job_examines_a_node_and_both_ways_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node_settings: Settings
) -> None:
    here = HereSlurm(starts=True)
    monkeypatch.setattr(slurm, "run_command", here)
    findings = cluster.examine_node(node_settings, tmp_path, 240.0, lambda text: None)
    for job in here.jobs:
        job.wait(30)
    checks = {f.check.partition(", ")[2] or f.check: f.verdict for f in findings}
    assert checks == dict.fromkeys(
        (
            "network: the master's address",
            "storage: new files",
            "storage",
            "clock",
            "versions",
            "network to the master",
            "network from the master",
            "devices",
        ),
        OK,
    ), (findings, (tmp_path / "job.log").read_text())
    (sbatch,) = (c for c in here.asked if c[0] == "sbatch")
    assert {"--partition=gpu", "--time=5", "--job-name=tandem-doctor"} <= set(sbatch)
    assert "export WORD=set" in (tmp_path / "job.sh").read_text()


def test_a_job_that_fails_is_a_fault_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node_settings: Settings
) -> None:
    here = HereSlurm(starts=True)
    monkeypatch.setattr(slurm, "run_command", lambda *c: "" if c[0] == "squeue" else here(*c))
    monkeypatch.setattr(cluster.sys, "executable", "/no/such/python")
    monkeypatch.setattr(cluster, "UNSEEN_S", 2.0)
    began = time.monotonic()
    found = only(cluster.examine_node(node_settings, tmp_path, 900.0, lambda text: None), "node")
    assert found.verdict == FAULT
    assert "/no/such/python" in found.found
    assert time.monotonic() - began < 600, "a job that has ended is not waited for"


@pytest.mark.parametrize("state", ["PENDING (Resources)", "RUNNING (None)"])
def test_a_job_that_waits_or_is_slow_is_no_fault_and_is_taken_out_of_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node_settings: Settings, state: str
) -> None:
    waiting = HereSlurm(starts=False, state=state)
    monkeypatch.setattr(slurm, "run_command", waiting)
    found = only(cluster.examine_node(node_settings, tmp_path, 1.0, lambda text: None), "node")
    assert (found.verdict, state in found.found) == (WARNING, True)
    assert ("scancel", "12") in waiting.asked


def test_a_check_that_fails_itself_is_a_fault_and_the_others_go_on() -> None:
    def check() -> list[Finding]:
        raise RuntimeError("no such thing")

    assert machine.safely(check, "network") == [Finding("network", FAULT, "RuntimeError: no such thing")]


def test_a_sound_machine_has_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.training.speed.STEPS_S", 0.0)
    monkeypatch.chdir(ROOT)
    findings = list(examine(digits(f"data.root={tmp_path / 'data'}"), tmp_path / "results", 0.0))
    assert {f.verdict for f in findings} <= {OK, WARNING}, findings
    assert only(findings, "network").verdict == OK
    assert "none failed" in conclusion(findings)


def test_findings_say_how_to_mend_them_and_the_exit_status_tells_programs(tmp_path: Path) -> None:
    assert (
        finding_line(Finding("data", FAULT, "is missing", "get it")) == "FAIL  data: is missing\n       To mend: get it"
    )
    (tmp_path / "file").touch()
    overrides = ["--set", "workers.where=local", "--set", "training.device=cpu", "--set", "training.threads=1"]
    command = [sys.executable, "-m", "pipeline.cli", "doctor", "--json", *overrides]
    done = subprocess.run(
        [*command, "--results", str(tmp_path / "file" / "x")], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1, done.stderr
    findings: list[dict[str, Any]] = json.loads(done.stdout)
    assert [f["check"] for f in findings if f["verdict"] == FAULT] == ["storage"], "one cause is told once"


def test_files_that_are_seen_late_are_named(tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    answer.touch()
    assert cluster._delay(tmp_path, answer).verdict == OK
    os.utime(answer, (time.time() - 45, time.time() - 45))
    found = cluster._delay(tmp_path, answer)
    assert (found.verdict, found.found) == (WARNING, "a node's file was seen within 45.0 s")
