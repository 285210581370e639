"""Studies of an archive that several processes fetch into one folder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from clinicalfmamba_nets.engine.fusion.remote import CACHE, RemoteStudy

ROUNDS = 300


def test_two_that_clean_at_one_time_leave_nothing_and_do_not_fail(tmp_path):
    archive: Any = None
    meet = Barrier(2, timeout=60)

    def clean(number: int) -> None:
        study = RemoteStudy(archive, f"1.2.{number}", tmp_path / CACHE / str(number))
        for _ in range(ROUNDS):
            (tmp_path / CACHE).mkdir(exist_ok=True)
            study.folder.mkdir()
            meet.wait()
            try:
                study.clean()
            except OSError:
                meet.abort()
                raise
            meet.wait()
            assert not (tmp_path / CACHE).exists()
            meet.wait()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(clean, number) for number in range(2)]:
            done.result()
