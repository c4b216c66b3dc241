"""What can travel, who is trusted, and what a bad message or certificate gets."""

from __future__ import annotations

import math
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509

from pipeline.errors import RunError, SiteError
from pipeline.records import Evaluation, TrainResult
from pipeline.rpc.messages import AttemptId, Outcome, Registration
from pipeline.rpc.plain import finite_loss, plain_info, to_plain
from pipeline.rpc.server import open_server
from pipeline.rpc.tls import ensure_authority, issue_certificate, use_tls
from pipeline.worker.evaluate import run_attempt

EVALUATION = Evaluation((0, 0, 1), {"x": 1}, 3.0, 1, 7)


# Values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array([1, 2]), [1, 2]),
        ((1, {2.5}), [1, [2.5]]),
        ({3: np.float64(1)}, {"3": 1.0}),
        (float("nan"), None),
        (-math.inf, None),
        (Path("/data"), "/data"),
        (b"bytes", "bytes"),
        (None, None),
    ],
)
def test_values_become_plain(value: Any, plain: Any) -> None:
    made = to_plain(value)
    assert made == plain
    assert type(made) is type(plain)


def test_a_tensor_becomes_plain_and_a_large_one_is_refused() -> None:
    torch = pytest.importorskip("torch")
    assert to_plain(torch.tensor(2.0)) == 2.0
    with pytest.raises(ValueError, match=r"info\['weights'\] is an array of 5000 elements; at most 1000 may travel"):
        plain_info({"weights": torch.zeros(5000)})


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ([1], "info is a list, not a dict"),
        ({"f": open}, r"info\['f'\] is a builtin_function_or_method, which cannot travel"),
        ({"text": "x" * 100_000}, "info takes 1000.. bytes as JSON; at most 65536 fit into a result"),
    ],
)
def test_infos_that_cannot_travel_say_why(info: dict[str, Any] | list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plain_info(info)


@pytest.mark.parametrize("loss", [0.25, np.float32(0.25), np.array(0.25), np.array([0.25])])
def test_losses_become_floats(loss: float | np.ndarray) -> None:
    assert finite_loss(loss) == 0.25
    assert type(finite_loss(loss)) is float


# Results ---------------------------------------------------------------------------------------------------------
IN_ITSELF = {}
IN_ITSELF["again"] = IN_ITSELF


def outcome_of(result: Any, info: Any | None = None) -> Outcome:
    """What becomes of a training that returns this, or raises it."""

    def evaluate(evaluation: Evaluation, should_stop: Callable[[], str | None]) -> Any:
        if isinstance(result, BaseException):
            raise result
        return TrainResult("finished", result, {} if info is None else info) if info != "bare" else result

    return run_attempt(evaluate, EVALUATION, lambda: None)


@pytest.mark.parametrize(
    ("loss", "info", "kind", "reason"),
    [
        (None, None, "bad_result", "the loss is a NoneType, not a number"),
        ("0.5", None, "bad_result", "the loss is a str, not a number"),
        (True, None, "bad_result", "the loss is a bool, not a number"),
        (np.zeros(3), None, "bad_result", "the loss is a ndarray with more than one element"),
        (math.nan, None, "not_finite", "the loss is nan"),
        (math.inf, None, "not_finite", "the loss is inf"),
        (10**400, None, "not_finite", "the loss is larger than any float"),
        (0.5, {"__class__": "x"}, "bad_result", "has the key '__class__'"),
        (0.5, IN_ITSELF, "bad_result", "is nested more than 30 levels deep"),
        (0.5, "bare", "bad_result", "training returned a float"),
        (0.5, [1], "bad_result", "info is a list, not a dict"),
        (0.5, {"curve": np.zeros(10_000)}, "bad_result", "info['curve'] is an array of 10000 elements"),
        (SystemExit(3), None, "error", "SystemExit: 3"),
        (RuntimeError("no such layer"), None, "error", "RuntimeError: no such layer"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), None, "out_of_memory", "CUDA out of memory"),
        (MemoryError(), None, "out_of_memory", "host memory"),
    ],
)
def test_a_bad_result_is_a_crash_with_its_reason(loss: Any, info: Any, kind: str, reason: str) -> None:
    outcome = outcome_of(loss, info)
    assert (outcome.status, outcome.kind) == ("crashed", kind)
    assert reason in outcome.reason


@pytest.mark.parametrize("error", [ImportError("no module named x"), OSError(28, "No space left on device")])
def test_failures_of_the_installation_are_broken_not_crashed(error: ImportError | OSError) -> None:
    assert outcome_of(error).status == "broken"


def test_numpy_values_in_a_good_result_arrive_as_plain_ones() -> None:
    outcome = outcome_of(np.float32(0.5), {"parameters": np.int64(3)})
    assert outcome.to_plain()["loss"] == 0.5
    assert type(outcome.info["parameters"]) is int


def test_names_that_are_no_utf8_travel_as_readable_text() -> None:
    outcome = outcome_of(0.5, {"path": "a\udc80b"})
    assert outcome.info["path"] == "a\\udc80b"
    assert Outcome("crashed", kind="error", reason="a\udc80b").to_plain()["reason"] == "a\\udc80b"


# Messages --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (None, "the worker sent no valid result"),
        ({}, "the worker sent no valid result: 'status'"),
        ({"status": "done"}, "unknown status 'done'"),
        ({"status": "crashed", "kind": "bored"}, "unknown kind of crash 'bored'"),
        ({"status": "finished"}, "'loss'"),
        ({"status": "finished", "loss": math.nan}, "the loss is nan"),
        ({"status": "finished", "loss": 1, "info": 3}, "info is a int, not a dict"),
    ],
)
def test_a_message_that_is_no_result_becomes_a_crash_that_says_so(message: dict[str, Any] | None, reason: str) -> None:
    outcome = Outcome.from_plain(message)
    assert (outcome.status, outcome.kind) == ("crashed", "bad_result")
    assert reason in outcome.reason


def test_an_introduction_without_its_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="incarnation is missing"):
        Registration.from_plain({"name": "w0"})
    with pytest.raises((TypeError, ValueError)):
        AttemptId.from_plain([[0, 0], 1.0, 1])


def test_messages_survive_the_journey() -> None:
    attempt = AttemptId((1, 2, 3), 0.4, 5)
    assert AttemptId.from_plain(attempt.to_plain()) == attempt
    outcome = Outcome("finished", 0.5, {"epochs": 3.0}, is_leaving=True)
    assert Outcome.from_plain(outcome.to_plain()) == outcome


LABEL = "digits-0a1b"


# Certificates ----------------------------------------------------------------------------------------------------
@pytest.fixture
def tls(tmp_path: Path) -> Path:
    ensure_authority(tmp_path / "tls", LABEL)
    return tmp_path / "tls"


def test_certificates_pass_strict_verification(tls: Path) -> None:
    credentials = issue_certificate(tls, "w0", ["127.0.0.1", "node1.cluster"])
    context = ssl.create_default_context(cafile=credentials.authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    context.load_cert_chain(credentials.certificate, credentials.key)
    certificate = x509.load_pem_x509_certificate(credentials.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["node1.cluster"]
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(credentials.authority.read_bytes()))


def test_the_authority_is_made_once(tls: Path) -> None:
    before = (tls / "authority.pem").read_bytes()
    ensure_authority(tls, LABEL)
    assert (tls / "authority.pem").read_bytes() == before


def test_an_authority_that_came_with_another_runs_files_is_replaced(tls: Path) -> None:
    issue_certificate(tls, "w0", ["127.0.0.1"])
    before = (tls / "authority.pem").read_bytes()
    ensure_authority(tls, "digits-2c3d")
    assert (tls / "authority.pem").read_bytes() != before
    assert {path.name for path in tls.iterdir()} == {"authority.pem", "authority.key"}


def test_a_folder_that_others_can_read_is_refused(tls: Path) -> None:
    tls.chmod(0o750)
    for attempt in (lambda: ensure_authority(tls, LABEL), lambda: issue_certificate(tls, "w0", ["127.0.0.1"])):
        with pytest.raises(RunError, match=r"others can read it \(mode 0750, owner \d+\)\. .*`chmod 700 "):
            attempt()


def test_a_missing_authority_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir(mode=0o700)
    with pytest.raises(RunError, match=r"Cannot read the run's certificate authority in .*a new authority is made"):
        issue_certificate(tmp_path / "tls", "w0", ["127.0.0.1"], wait_s=0)


def test_a_damaged_authority_says_what_to_do(tls: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert((tls / "authority.pem").read_text())
    of_no_known_curve = der.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("1a8648ce3d030107"))
    for damaged in (b"AAAA", of_no_known_curve):
        (tls / "authority.pem").write_text(ssl.DER_cert_to_PEM_cert(damaged))
        with pytest.raises(RunError, match="Cannot read the run's certificate authority"):
            issue_certificate(tls, "w0", ["127.0.0.1"], wait_s=0)
    (tls / "authority.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(RunError, match="Cannot read the run's certificate authority"):
        issue_certificate(tls, "w0", ["127.0.0.1"], wait_s=0)


def test_files_of_two_authorities_are_noticed(tls: Path, tmp_path: Path) -> None:
    ensure_authority(tmp_path / "other", LABEL)
    shutil.copy(tmp_path / "other" / "authority.key", tls / "authority.key")
    with pytest.raises(RunError, match="files of two authorities are mixed"):
        issue_certificate(tls, "w0", ["127.0.0.1"], wait_s=0)


SPEAKS = """
import sys
from pathlib import Path
import Pyro4
from pipeline.rpc.network import PYRO

class Thing:
    @Pyro4.expose
    def hello(self):
        return "hello"

tls, files = Path(sys.argv[1]), []
for address in ("127.0.0.2", "127.0.0.1", "127.0.0.1"):
    PYRO.take_credentials(tls, "worker-w0", [address])
    server = PYRO.serve(address, None)
    uri = server.register(Thing())
    server.start()
    for _ in range(2):
        with PYRO.proxy(str(uri), 10) as thing:
            print(address, thing.hello(), *sorted(path.name for path in tls.iterdir()))
    server.shutdown()
"""


def test_a_process_leaves_no_files_in_the_tls_folder_and_speaks_at_each_of_its_addresses(tls: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SPEAKS, str(tls)], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        f"{address} hello authority.key authority.pem"
        for address in ("127.0.0.2", "127.0.0.1", "127.0.0.1")
        for _ in "12"
    ], done.stderr


# Listening -------------------------------------------------------------------------------------------------------
def test_a_port_outside_the_range_is_never_taken_and_a_full_range_says_so(tls: Path) -> None:
    use_tls(issue_certificate(tls, "w0", ["127.0.0.1"]))
    first = 20_000 + os.getpid() % 20_000
    servers = []
    try:
        for _ in range(2):
            servers.append(open_server("127.0.0.1", (first, first + 1), first_choice=1))
        assert {s.port for s in servers} <= {first, first + 1}
        with pytest.raises(SiteError, match=f"Cannot listen on a port in {first}..{first + 1} of 127.0.0.1"):
            open_server("127.0.0.1", (first, first + 1))
    finally:
        for server in servers:
            server.close()


def test_an_address_that_is_not_this_machines_says_which_setting_to_change(tls: Path) -> None:
    use_tls(issue_certificate(tls, "w0", ["127.0.0.1"]))
    with pytest.raises(SiteError, match=r"Cannot listen on any port of 192\.0\.2\.1: .*`network.address`"):
        open_server("192.0.2.1", None)
