"""What becomes of results between their delivery and the disk."""

from __future__ import annotations

import queue
from concurrent.futures import Future

from pipeline.run_folder import RunFolder
from pipeline.search.attempts import AttemptBook
from pipeline.search.checkpoints import CheckpointKeeper
from pipeline.search.judge import Judge
from pipeline.search.lease import take_lease
from pipeline.search.messages import Outcome
from pipeline.search.roster import EvaluationJob, Roster
from pipeline.search.run_files import RunFiles
from pipeline.search.search import Search
from pipeline.settings import load_settings


def test_a_result_that_comes_twice_is_acknowledged_to_neither_before_it_is_durable(tmp_path):
    settings = load_settings("digits", [])
    folder = RunFolder(tmp_path)
    search, roster = Search(settings), Roster(60)
    keeper = CheckpointKeeper(folder, settings, queue.SimpleQueue())
    files = RunFiles(folder, take_lease(folder))
    book = AttemptBook(folder, search, roster, Judge(3, 3), files, keeper, lambda cause: None)
    job = EvaluationJob(*search.next_evaluation())
    attempt = job.next_attempt()
    roster.jobs[job.key] = job
    files.write_draws(search.take_new_draws())

    first, second = Future(), Future()
    for worker, reply in (("w0", first), ("w1", second)):
        book.take(attempt, Outcome("finished", loss=0.5), worker, "here", reply)
    assert not first.done()
    assert not second.done()
    book.commit()
    assert first.result(0) == {"accepted": True}
    assert second.result(0)["accepted"] is False
    assert folder.results.read_bytes().count(b"\n") == 1
    keeper.close()
    files.close()
