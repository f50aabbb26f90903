"""A world of tables with a pilot in it, for tests of the report."""

from dataclasses import replace

import numpy as np
import polars as pl

from ppl_assets.pilot.comparison import comparison_tables
from ppl_assets.pilot.preregistration import register, registered
from ppl_assets.report import ReportData
from ppl_assets.schema import TABLES
from ppl_assets_tests.pilot.studies import PILOT, TASKS, domains_table, random_values, runs_table, study

ARMS = ("ours", "uniform", "dsir")
DOMAINS = ("a.org", "<b>b</b>", "c.org")


def with_pilot(world: ReportData, pilot: str = PILOT) -> ReportData:
    """The world with a pilot whose arm `rules` was not run, and in which `dsir` harms one domain.

    `pilot` is the section of the study as text.
    """
    rng = np.random.default_rng(0)
    stated, earlier = study(pilot), TABLES["preregistration"].polars_schema.to_frame()
    plans = register(stated, earlier, known_arms=[], now="2026-01-31T12:00:00+00:00")
    losses = {(arm, target, name): 1 + 0.01 * rng.random(3) for arm in ARMS for target in TASKS for name in DOMAINS}
    losses["dsir", "prose", "<b>b</b>"] = losses["uniform", "prose", "<b>b</b>"] * 1.2
    assert stated.pilot is not None
    sizes = list(enumerate(stated.pilot.sizes, start=1))
    tables = comparison_tables(
        stated,
        pl.concat(runs_table(random_values(ARMS), size=size, flops=1e9 * number) for number, size in sizes),
        pl.concat(domains_table(losses, size=size) for _, size in sizes),
        pilot=registered(plans, stated)["pilot"],
        costs={},
    )
    shown = {name: tables[name] for name in ("pilot_comparison", "pilot_harm")}
    return replace(world, preregistration=plans, **shown)
