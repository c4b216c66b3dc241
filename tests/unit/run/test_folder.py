"""What makes a run folder safe to run pickles from."""

import os
from pathlib import Path

import pytest

from pipeline.errors import RunError
from pipeline.run.creation import create_run
from pipeline.run.folder import RunFolder, ensure_compile_cache, ensure_jobs_folder
from pipeline.settings import load_settings


def test_nobody_else_may_write_where_pickles_lie_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = create_run(load_settings("digits"), tmp_path / "results")
        ensure_jobs_folder(folder)
    finally:
        os.umask(before)
    assert folder.path.stat().st_mode & 0o777 == 0o755
    assert folder.jobs.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("which", ["path", "jobs"])
@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_folder_of_pickles_that_others_may_write_is_refused_with_what_mends_it(
    tmp_path: Path, which: str, mode: int
) -> None:
    folder = create_run(load_settings("digits"), tmp_path / "results")
    ensure_jobs_folder(folder)
    path = getattr(folder, which)
    path.chmod(mode)
    with pytest.raises(RunError, match=f"chmod go-w {path}"):
        ensure_jobs_folder(folder)
    path.chmod(mode & ~0o022)
    ensure_jobs_folder(folder)


def test_a_link_or_a_file_in_the_place_of_the_jobs_is_refused(tmp_path: Path) -> None:
    folder = create_run(load_settings("digits"), tmp_path / "results")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder.jobs.symlink_to(elsewhere)
    with pytest.raises(RunError, match="must be a folder of yours"):
        ensure_jobs_folder(folder)
    folder.jobs.unlink()
    folder.jobs.write_text("")
    with pytest.raises(RunError, match="Cannot make"):
        ensure_jobs_folder(folder)


def test_each_user_of_a_results_folder_has_a_cache_of_compiled_code_that_nobody_else_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "other")
    before = os.umask(0)
    try:
        cache = ensure_compile_cache(one)
    finally:
        os.umask(before)
    assert cache.stat().st_mode & 0o777 == 0o700
    assert ensure_compile_cache(other) == cache, "another run finds it filled"
    cache.chmod(0o775)
    with pytest.raises(RunError, match=f"chmod go-w {cache}`; else let TORCHINDUCTOR_CACHE_DIR name another"):
        ensure_compile_cache(one)
    cache.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert one.compile_cache != cache
    with pytest.raises(RunError, match=r"must be a folder of yours"):
        ensure_compile_cache(one)  # somebody else made it in this user's name
