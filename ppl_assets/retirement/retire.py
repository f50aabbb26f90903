"""One command: record, delete, compute anew without, search, sign off. Given again, it goes on where it was stopped."""

from dataclasses import replace
from datetime import date

import polars as pl

import ppl_assets
from ppl_assets.corpus import text_digest
from ppl_assets.errors import InputError, suggestion
from ppl_assets.mixture.changes import GONE
from ppl_assets.orchestration.history import compact, forget_runs
from ppl_assets.orchestration.instance import prepare
from ppl_assets.orchestration.provenance import RECIPES
from ppl_assets.orchestration.runner import Display, run_stale
from ppl_assets.orchestration.status import partition_states
from ppl_assets.orchestration.workspace import SPLITS, Workspace
from ppl_assets.retired import Retired, Retirement, read_retirements, write_retirements
from ppl_assets.retirement.purge import parts_of, purge_derived, purge_imports, purge_lake
from ppl_assets.retirement.sign_off import found_in, not_covered, searched
from ppl_assets.retirement.traces import Traces, in_file, kept_traces, traces_of
from ppl_assets.schema import TABLES
from ppl_assets.settings import Settings
from ppl_assets.warehouse import Lake

_PAGE_KEYS = ("page_id", "example")


def retire(
    settings: Settings, pattern: str, *, reason: str, owner: str, display: Display, workers: int | None = None
) -> Retirement:
    """Remove every domain that `pattern` matches, for good; returns the signed entry of the list of retired domains.

    From the moment it is on the list a domain is not sampled or imported again. Given again, the same pattern is
    searched for and signed off anew, with the reason and owner of the first time.

    Raises:
        InputError: the pattern matches no domain, or every one; no reason; something could not be computed anew, or a
            trace is left. The domain is then retired but not signed off.
    """
    prepare(settings)
    workspace = Workspace(settings)
    entry = _entry(workspace, pattern, reason=reason, owner=owner)
    retired = Retired((pattern,))
    _put(settings, entry)
    searched_for = settings.retiring / f"{text_digest(pattern).hex()}.npz"
    traces = kept_traces(searched_for, _traces(workspace.lake, entry, retired))
    purge_lake(workspace.lake, retired, traces.page_ids)
    purge_imports(settings.imports, retired)
    purge_derived(settings)
    forget_runs(settings, lambda path: in_file(traces, path) > 0)
    failed = [outcome.error for outcome in run_stale(settings, select=None, display=display, workers=workers)]
    failed = [error for error in failed if error]
    if failed:
        raise InputError(f"{pattern!r} is retired but not signed off: {failed[0]}; repair it and retire it again")
    signed = replace(entry, signed_off=_proof(Workspace(settings), traces, entry))
    # First: killed in between, the page ids of a domain that is signed off would stay.
    searched_for.unlink()
    _put(settings, signed)
    return signed


def _entry(workspace: Workspace, pattern: str, *, reason: str, owner: str) -> Retirement:
    """The entry as it stands or, the first time, a new one."""
    known = _known_domains(workspace.lake)
    matched = Retired((pattern,)).among(known)
    listed = [entry for entry in read_retirements(workspace.settings.retired_file) if entry.pattern == pattern]
    if listed:
        return replace(listed[0], domains=tuple(sorted({*listed[0].domains, *matched})), signed_off=None)
    if not reason.strip():
        raise InputError("--reason: found nothing, expected why the domain is retired")
    if not matched:
        hint = suggestion(pattern, known) or f"; {len(known)} domains are known"
        raise InputError(f"pattern {pattern!r} matches no domain{hint}")
    if len(matched) == len(known):
        raise InputError(f"pattern {pattern!r} matches all {len(known)} domains; expected one that leaves some")
    return Retirement(
        pattern=pattern,
        reason=reason,
        owner=owner,
        date=date.today().isoformat(),
        domains=tuple(matched),
        models=_trained_on(workspace, matched),
    )


def _known_domains(lake: Lake) -> set[str]:
    """Every domain that any table names; the one row that stands for those which are gone is none."""
    tables = [part for part in parts_of(lake) if "domain" in TABLES[part[0]].by_name]
    return {name for part in tables for name in lake.read(*part)["domain"].unique() if name and name != GONE}


def _trained_on(workspace: Workspace, domains: list[str]) -> tuple[str, ...]:
    """The study's own models whose training pages, and tokenizer, held text of these domains."""
    pages = _pages(workspace.lake)
    held = pages.filter((pl.col("split") == "training") & pl.col("domain").is_in(domains))
    return tuple(workspace.study.zoo_slugs()) if held.height else ()


def _pages(lake: Lake) -> pl.DataFrame:
    return lake.read_partitions("pages", [split for split in SPLITS if lake.exists("pages", split)])


def _traces(lake: Lake, entry: Retirement, retired: Retired) -> Traces:
    """What the domains leave behind, from all that is stored of them."""
    page_ids: set[str] = set()
    texts: set[str] = set()
    for table, partition in parts_of(lake):
        rows = lake.read(table, partition)
        if "domain" not in rows.columns:
            continue
        rows = rows.filter(pl.col("domain").is_in(retired.among(rows["domain"])))
        page_ids |= {value for key in _PAGE_KEYS if key in rows.columns for value in rows[key] if value}
        texts |= set(rows["text"]) if "text" in rows.columns else set()
    others = _pages(lake).filter(~pl.col("domain").is_in(list(entry.domains)))
    return traces_of(entry.domains, page_ids, texts).without(others["text"])


def _proof(workspace: Workspace, traces: Traces, entry: Retirement) -> dict[str, object]:
    """The signed part of the entry.

    Raises:
        InputError: something is not up to date, a trace is left, or another process holds a file.
    """
    states = [state for state in partition_states(workspace) if not RECIPES[state.asset].on_request]
    behind = [state.asset for state in states if state.state != "current"]
    if behind:
        raise InputError(
            f"{entry.pattern!r} is retired but not signed off: {behind[0]} is not up to date; run it again"
        )
    kept = _pages(workspace.lake)["text"].to_list()
    chunks = workspace.table("chunks")["text"].to_list()
    own = traces.without([*kept, *chunks])
    compact(workspace.settings)
    proof = searched(workspace, own)
    left = found_in(proof)
    if left:
        raise InputError(
            f"{entry.pattern!r} is retired but not signed off: traces are left in {', '.join(left)}; remove the file, "
            "or what names the domain in the study, and retire it again"
        )
    return {
        "date": date.today().isoformat(),
        "ppl_assets": ppl_assets.__version__,
        "searched_for": {
            "names": list(own.distinct_names),
            "names_in_columns_of_domains_only": [name for name in own.names if name not in own.distinct_names],
            "page_ids": len(own.page_ids),
            "runs_of_64_bytes_of_text": len(own.runs),
        },
        "traces": 0,
        **proof,
        "models_trained_anew": list(entry.models),
        "not_covered": not_covered(workspace),
    }


def _put(settings: Settings, entry: Retirement) -> None:
    """Write an entry in its place in the list, or at its end."""
    entries = {each.pattern: each for each in read_retirements(settings.retired_file)}
    write_retirements(settings.retired_file, (entries | {entry.pattern: entry}).values())
