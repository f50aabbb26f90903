"""What must hold of a state folder at every moment, whoever was killed in whatever it was doing."""

import json

from ppl_assets.orchestration.provenance import RECIPES
from ppl_assets.orchestration.status import partition_states
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets.warehouse import Footer, published_tables, seal

Finished = dict[tuple[str, str | None], list[Footer | None]]


def assert_nothing_is_half_written(settings: Settings) -> None:
    """Every part is what was sealed, and every published file can be opened and read to its end."""
    for path in settings.lake.rglob("*.parquet"):
        assert seal.is_whole(path.read_bytes()), path
    for path in settings.certificates.rglob("*.json"):
        assert json.loads(path.read_text())["decision"]["weight"] > 0, path
    if settings.report_file.exists():
        assert settings.report_file.read_text().rstrip().endswith("</html>")
    if settings.warehouse_file.exists():
        assert published_tables(settings.warehouse_file)


def finished_work(settings: Settings) -> Finished:
    """Footers, cost and run included, of all that is current: work that is done again has another run."""
    if not settings.lake.exists():
        return {}
    workspace = Workspace(settings)
    return {
        (each.asset, each.partition): [
            workspace.lake.footer(table, part) for table, part in RECIPES[each.asset].parts(each.partition)
        ]
        for each in partition_states(workspace)
        if each.state == "current"
    }


def assert_nothing_was_lost(before: Finished, after: Finished) -> None:
    """What was finished is still there, as the same run has left it."""
    lost = [key for key, footers in before.items() if after.get(key) != footers]
    assert lost == []
