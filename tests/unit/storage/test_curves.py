import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import astuple, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.errors import RunError
from pipeline.records import AttemptEnd, AttemptHeader, EpochRow, row_columns
from pipeline.storage.curves import SEAL, AttemptFile, read_attempt

HEADER = AttemptHeader(
    run_id="run-1",
    config_id=(3, 0, 7),
    configuration={"learning_rate": 0.1, "res_branches_1": 2, "activation": "relu", "inactive": None},
    budget=400.0,
    budget_unit="seconds",
    attempt=2,
    seed=2**62 + 1,
    started=1.7e9,
    inherited_training_s=10.0,
    continued_from="attempt 1",
    dataset="digits",
    parameters=1234,
    flops_per_image=1e6,
    device="cpu",
    host="node1",
    worker="w1",
    slurm_job_id="12_3",
    versions={"torch": "2.6"},
)
END = AttemptEnd("finished", "", 1.7e9 + 40, 400.0, 0.3, 0.1, float("nan"), float("nan"))


def row(number: int, validation_error: float = 0.5) -> EpochRow:
    values = {name: float(number) for name, _, _ in row_columns(EpochRow)}
    values |= {"batches": 10 * number, "attempt": 2, "validation_error": validation_error, "rung": 400.0}
    return EpochRow(**values)  # type: ignore[arg-type]


def written(path: Path, rows: int = 3) -> Path:
    file = AttemptFile(path)
    file.begin(HEADER, [row(1)])
    for number in range(2, rows + 1):
        file.add(row(number))
    return path


def test_an_attempt_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = written(tmp_path / "a" / "b400-a2.h5")
    header, rows, end = read_attempt(path)
    assert (header, end) == (HEADER, None)
    assert list(rows) == [name for name, _, _ in row_columns(EpochRow)]
    assert [tuple(column[1].item() for column in rows.values())] == [astuple(row(2))]
    assert rows["batches"].dtype == np.int64


def test_a_measurement_that_was_not_taken_stays_nan(tmp_path: Path) -> None:
    file = AttemptFile(tmp_path / "b400-a2.h5")
    file.begin(HEADER, [])
    file.add(row(1, validation_error=float("nan")))
    file.end(END)
    _, rows, end = read_attempt(file.path)
    assert np.isnan(rows["validation_error"]).tolist() == [True]
    assert end is not None
    assert np.isnan(end.test_error)
    assert replace(end, test_error=0.0, test_loss=0.0) == replace(END, test_error=0.0, test_loss=0.0)


def test_every_column_has_its_unit_and_description_in_the_file(tmp_path: Path) -> None:
    with h5py.File(written(tmp_path / "x.h5"), locking=False) as file:
        curve = file["learning_curve"]
        notes = list(zip(*(curve.attrs[key] for key in ("columns", "units", "descriptions")), strict=True))
    assert notes == row_columns(EpochRow)
    assert all(description for _, _, description in notes)


def test_what_was_trained_and_how_it_ended_stand_in_the_attributes_too(tmp_path: Path) -> None:
    file = AttemptFile(tmp_path / "x.h5")
    file.begin(HEADER, [])
    file.end(END)
    with h5py.File(file.path, locking=False) as opened:
        attributes = dict(opened.attrs)
    assert attributes["config_id"].tolist() == [3, 0, 7]
    assert json.loads(attributes["configuration"]) == HEADER.configuration
    assert (attributes["seed"], attributes["device"], attributes["end_status"]) == (HEADER.seed, "cpu", "finished")


def test_nothing_is_added_to_a_curve_that_has_ended_or_not_begun(tmp_path: Path) -> None:
    file = AttemptFile(tmp_path / "x.h5")
    with pytest.raises(RunError, match="has not begun"):
        file.add(row(1))
    file.begin(HEADER, [])
    file.end(END)
    with pytest.raises(RunError, match="has ended"):
        file.add(row(1))


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    path = written(tmp_path / "b400-a2.h5")
    if damage == "other":
        with h5py.File(path, "w") as file:
            file["something"] = 1
    else:
        content = {"empty": b"", "cut": path.read_bytes()[:2000], "text": b"not HDF5 at all"}[damage]
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"b400-a2\.h5 is damaged"):
        read_attempt(path)


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from tests.unit.storage.test_curves import HEADER, row
    from pipeline.storage.curves import AttemptFile

    file = AttemptFile(Path(sys.argv[1]))
    file.begin(HEADER, [])
    for number in range(1, 100_000):
        file.add(row(number))
        print(number, flush=True)
    """
)


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_loses_no_finished_row(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for trial in range(6):
        path = tmp_path / f"{trial}.h5"
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        ) as writer:
            assert writer.stdout is not None
            stop_after = int(generator.integers(1, 60))
            said = [int(writer.stdout.readline()) for _ in range(stop_after)]
            writer.send_signal(signal.SIGKILL)
            said += [int(line) for line in writer.stdout.read().split()]
        _, rows, end = read_attempt(path)
        # The row in flight when the signal came may be there or not; every one that was said is.
        assert end is None
        assert len(rows["epoch"]) in (said[-1], said[-1] + 1)
        np.testing.assert_array_equal(rows["epoch"], np.arange(1, len(rows["epoch"]) + 1))


def test_a_reader_beside_the_writer_always_sees_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "live.h5"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        seen = [len(read_attempt(path)[1]["epoch"]) for _ in range(200)]
        writer.kill()
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


@pytest.mark.slow
def test_a_curve_that_outgrows_its_first_room_keeps_every_row(tmp_path: Path) -> None:
    _, rows, _ = read_attempt(written(tmp_path / "x.h5", rows=200))
    assert rows["epoch"].tolist() == list(range(1, 201))


def test_a_file_in_which_one_byte_is_another_is_refused_and_one_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "x.h5")
    content = path.read_bytes()
    image = content[: content.rindex(SEAL)]
    for place in range(0, len(image), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(RunError, match="their checksum differs"):
            read_attempt(path)
    path.write_bytes(image)
    assert read_attempt(path)[0] == HEADER
