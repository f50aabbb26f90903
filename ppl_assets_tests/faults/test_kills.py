"""At least 200 random kill points: whole runs killed with SIGKILL at seeded random writes and moments, and resumed.

Each kill is followed by the next run, until one ends; its tables must be those of a run that was left alone. Told at
the end: how many kills there were, and into what they hit.
"""

import multiprocessing
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ppl_assets.settings import Settings
from ppl_assets_tests.faults.invariants import (
    Finished,
    assert_nothing_is_half_written,
    assert_nothing_was_lost,
    finished_work,
)
from ppl_assets_tests.faults.killed import run_until_write
from ppl_assets_tests.orchestration.test_runner import assert_same_tables, settings_of, tables_of
from ppl_assets_tests.scored_study import write_scored_study
from ppl_assets_tests.studies import write_import_study

pytestmark = pytest.mark.slow

KILLS = {"imported": 190, "scored": 20}
# Runs on states of their own side by side.
LANES = 2
WRITE_STUDY = {"imported": write_import_study, "scored": write_scored_study}
# A whole run has some hundreds of writes. Within so many, and so much of a whole run's time, a kill comes early in what
# is left of a run or late, and leaves it further than it was.
MOST_WRITES, MOST_OF_A_RUN = 120, 0.5


@pytest.fixture(scope="module")
def children():
    """Child processes forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ppl_assets_tests.faults.killed", "transformers", "lm_eval"])
    return context


@pytest.mark.parametrize("kind", KILLS)
def test_killed_at_random_writes_and_moments_it_ends_in_the_tables_of_a_run_left_alone(
    kind, children, tmp_path, record_property
):
    (tmp_path / "study").mkdir()
    study = WRITE_STUDY[kind](tmp_path / "study")
    undisturbed = settings_of(study, "undisturbed")
    began = time.monotonic()
    _start(children, undisturbed, None).join()
    seconds = MOST_OF_A_RUN * (time.monotonic() - began)
    expected, everything = tables_of(undisturbed), finished_work(undisturbed)

    def lane(number: int) -> tuple[Counter[str], int]:
        """One run after the other, each killed until it ends, until there were this lane's kills; how many runs."""
        rng, hit, runs = random.Random(f"{kind} {number}"), Counter[str](), 0
        while hit.total() < KILLS[kind] / LANES:
            runs += 1
            settings = settings_of(study, f"state-{number}-{runs}")
            killed = _kill_until_it_ends(
                children, settings, rng, most=KILLS[kind] // LANES - hit.total(), seconds=seconds
            )
            hit.update(_next_asset(finished, everything) for finished in killed)
            assert_same_tables(tables_of(settings), expected)
            assert not list(settings.state.rglob(".*.tmp"))
            shutil.rmtree(settings.state)
        return hit, runs

    with ThreadPoolExecutor(LANES) as pool:
        lanes = list(pool.map(lane, range(LANES)))
    hit = sum((each for each, _ in lanes), Counter[str]())
    assert hit.total() >= KILLS[kind]
    record_property(
        "kill points", f"{hit.total()} of {kind} runs, {sum(runs for _, runs in lanes)} of which ended then"
    )
    for where, count in hit.most_common():
        record_property(f"killed during {where}", count)


def _kill_until_it_ends(
    children, settings: Settings, rng: random.Random, *, most: int, seconds: float
) -> Iterator[Finished]:
    """What was finished at each kill, of `most` at the most."""
    before, exit_code, kills = finished_work(settings), None, 0
    while exit_code != 0:
        by_write, alone = rng.random() < 0.5, kills >= most
        child = _start(children, settings, rng.randint(1, MOST_WRITES) if by_write and not alone else None)
        child.join(timeout=None if by_write or alone else rng.uniform(0, seconds))
        child.kill()
        child.join()
        exit_code = child.exitcode
        assert exit_code in (0, -9), "a run ends well or is killed"
        assert_nothing_is_half_written(settings)
        after = finished_work(settings)
        assert_nothing_was_lost(before, after)
        before = after
        if exit_code:
            kills += 1
            yield after


def _start(children, settings: Settings, number: int | None):
    child = children.Process(target=run_until_write, args=(settings, number))
    child.start()
    return child


def _next_asset(finished: Finished, everything: Finished) -> str:
    """The first asset, in the order of the graph, of which nothing or not all is finished."""
    return next((asset for asset, partition in everything if (asset, partition) not in finished), "the end")
