"""Worker processes: what kills or stops one costs the task that it was at, and no other."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ppl_assets.orchestration.workers import Workers


def execute(work: Any, tell: Callable[[Any], None]) -> Any:
    """Answer, say something first, die or hang, as the work wants."""
    match work:
        case ("killed", _):
            os.kill(os.getpid(), signal.SIGKILL)
        case ("exit", _):
            os._exit(7)
        case ("hang", _):
            signal.pause()
        case ("say", number):
            tell(number)
    return work, os.getpid()


def run(works: list[Any], *, count: int = 2, seconds: float = 600) -> tuple[dict[Any, Any], list[Any]]:
    told: list[Any] = []
    with Workers(count, execute, seconds=seconds) as workers:
        done = list(workers.run(works, told.append))
    assert sorted(each.work for each in done) == sorted(works), "each piece of work ends once"
    return {each.work: each for each in done}, told


def test_every_piece_of_work_is_answered_by_one_of_the_workers_and_updates_arrive() -> None:
    works = [("say", number) for number in range(20)]
    done, told = run(works)
    assert all(each.lost is None and each.result[0] == work for work, each in done.items())
    assert len({each.result[1] for each in done.values()}) <= 2
    assert os.getpid() not in {each.result[1] for each in done.values()}
    assert sorted(told) == list(range(20))


@pytest.mark.parametrize(
    ("how", "message"),
    [("killed", r"the worker process was killed \(out of memory\?\)"), ("exit", "ended with exit code 7")],
)
@pytest.mark.parametrize("count", [1, 2])
def test_a_worker_that_dies_loses_its_own_work_and_the_rest_is_done_by_others(how, message, count) -> None:
    works = [("say", 0), (how, 1), ("say", 2), (how, 3), ("say", 4), ("say", 5)]
    done, _ = run(works, count=count)
    lost = {work: each.lost for work, each in done.items() if each.lost}
    assert set(lost) == {(how, 1), (how, 3)}
    assert all(re.search(message, sentence) for sentence in lost.values())


def test_work_that_hangs_is_stopped_at_the_time_limit_and_the_rest_is_done() -> None:
    done, _ = run([("hang", 0), *(("say", number) for number in range(5))], seconds=5)
    assert {work for work, each in done.items() if each.lost} == {("hang", 0)}
    assert done[("hang", 0)].lost == "was stopped after 5 s, the time limit of a partition"


def test_workers_end_with_the_process_that_started_them() -> None:
    """Killed, so that it can clean up nothing: a worker that hangs must not work on beside the next command line."""
    code = (
        "from ppl_assets.orchestration.workers import Workers\n"
        "from ppl_assets_tests.orchestration.test_workers import execute_and_tell as execute\n"
        "if __name__ == '__main__':\n"
        "    with Workers(1, execute, seconds=600) as workers:\n"
        "        list(workers.run(['hang'], lambda pid: print(pid, flush=True)))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    descriptor = os.pidfd_open(worker)
    parent.kill()
    parent.communicate()
    assert select.select([descriptor], [], [], 60)[0], "the worker outlives its parent"
    os.close(descriptor)


def execute_and_tell(_: Any, tell: Callable[[Any], None]) -> None:
    """Say who executes, then hang."""
    tell(os.getpid())
    signal.pause()


def test_workers_that_drew_a_bar_leave_nothing_behind_when_they_are_ended(tmp_path) -> None:
    """Python tells at its end of semaphores that nobody gave back."""
    (tmp_path / "bars.py").write_text(
        "import io\nfrom tqdm import tqdm\nfrom ppl_assets.orchestration.workers import Workers\n"
        "def execute(work, tell):\n"
        "    return sum(tqdm(range(work), file=io.StringIO()))\n"
        "if __name__ == '__main__':\n"
        "    with Workers(1, execute, seconds=600) as workers:\n"
        "        print(*(done.result for done in workers.run([4], print)))\n"
    )
    bare = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    ended = subprocess.run([sys.executable, tmp_path / "bars.py"], capture_output=True, text=True, env=bare)
    assert (ended.stdout, ended.returncode) == ("6\n", 0), ended.stderr
    assert "leaked" not in ended.stderr
