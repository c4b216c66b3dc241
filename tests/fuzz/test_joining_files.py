"""Damaged files of a run by which masters and workers know it and each other: each copes, or says in one line which."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.master.lease import Lease, LeaseLostError, take_lease
from pipeline.rpc.tls import ensure_authority, issue_certificate
from pipeline.run.folder import RunFolder
from pipeline.run.identity import make_identity, require_no_copy, run_label, settle_identity
from tests.fuzz.commands import complaint
from tests.fuzz.mutations import as_json, mutated_bytes, mutated_value, tries

LABEL = "run-0a1b2c3d"


@pytest.fixture(scope="module")
def held(folder: RunFolder) -> Lease:
    return take_lease(folder, 0.0)


@pytest.fixture(scope="module")
def known(folder: RunFolder, held: Lease) -> RunFolder:
    make_identity(folder)
    held.beat()
    ensure_authority(folder.tls, LABEL)
    return folder


def copied(folder: RunFolder, place: Path) -> RunFolder:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder.path, place)
    return RunFolder(place)


def know_itself(folder: RunFolder) -> None:
    require_no_copy(folder)
    run_label(folder)
    settle_identity(folder)


def take_over(folder: RunFolder) -> None:
    take_lease(folder, 0.0).check()


def prove_itself(folder: RunFolder) -> None:
    ensure_authority(folder.tls, LABEL)
    issue_certificate(folder.tls, "worker", ["127.0.0.1"], wait_s=0.0)


READERS = {
    "identity.json": know_itself,
    "masters/000001.json": take_over,
    "masters/000001.beat": take_over,
    "tls/authority.pem": prove_itself,
    "tls/authority.key": prove_itself,
}


@pytest.mark.parametrize("name", READERS)
@tries(25)
@given(st.data())
def test_a_file_by_which_processes_know_each_other(
    known: RunFolder, tmp_path: Path, name: str, data: st.DataObject
) -> None:
    folder = copied(known, tmp_path / "run")
    path = folder.path / name
    content = path.read_bytes()
    values = mutated_value(json.loads(content)).map(as_json) if name[-4:] in ("json", "beat") else st.nothing()
    path.write_bytes(data.draw(st.one_of(values, mutated_bytes(content), st.sampled_from([b"", b"[" * 50_000, b"[]"]))))
    text = complaint(READERS[name], folder)
    assert not text or path.parent.name in text or path.stem in text


@tries(25)
@given(st.data())
def test_a_master_whose_lease_is_damaged_leaves(held: Lease, data: st.DataObject) -> None:
    content = held._path.read_bytes()
    values = mutated_value(json.loads(content)).map(as_json)
    try:
        held._path.write_bytes(data.draw(values | mutated_bytes(content) | st.just(b"[]")))
        with contextlib.suppress(LeaseLostError):  # or what makes it this master's is still there
            held.check()
    finally:
        held._path.write_bytes(content)
