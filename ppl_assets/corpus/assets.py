"""Assets of the corpus room: what there is, which pages are sampled, and the chunks that are scored."""

import dagster as dg
import polars as pl

from ppl_assets.corpus.catalog import Catalog, catalog
from ppl_assets.corpus.chunking import chunk_pages
from ppl_assets.corpus.imported import imported_domains
from ppl_assets.corpus.sampling import collect
from ppl_assets.corpus.sources import read_pages
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options, preview
from ppl_assets.schema import TABLES


@dg.asset(**asset_options("domain_catalog", group="corpus", kinds={"polars"}), deps=["imported_bpb"])
def domain_catalog(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """Every domain of the source, what it holds in the whole source, and whether policy allows it."""
    step = Step(context, workspace)
    study = step.workspace.study
    elsewhere = imported_domains(step.workspace.table("imported_bpb"), study.policy)
    if study.corpus is None:
        empty = {table: TABLES[table].polars_schema.to_frame() for table in ("page_sample", "page_rejections")}
        return step.publish({"domains": elsewhere, **empty})
    found = catalog(read_pages(study, retired=step.workspace.retired), study, progress=step.report())
    added = elsewhere.join(found.domains, on="domain", how="anti")
    return step.publish(
        {
            "domains": pl.concat([found.domains, added]),
            "page_sample": found.sample,
            "page_rejections": found.rejections,
        },
        metadata={
            "pages left out": dg.MetadataValue.md(preview(_by_reason(found.rejections))),
            "exact duplicates": dg.MetadataValue.md(preview(found.duplicates)),
        },
    )


@dg.asset(**asset_options("corpus_pages", group="corpus", kinds={"polars"}), deps=["domain_catalog"])
def corpus_pages(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """The sampled pages with their text, in three parts disjoint by page, without near duplicates within or across."""
    step = Step(context, workspace)
    study, lake = step.workspace.study, step.workspace.lake
    nothing = pl.DataFrame()
    sample = Catalog(
        domains=lake.read("domains"), rejections=nothing, sample=lake.read("page_sample"), duplicates=nothing
    )
    wanted = set(sample.sample["page_id"])
    pages = read_pages(study, wanted=wanted, retired=step.workspace.retired)
    found = collect(pages, sample, study, progress=step.report())
    across = found.near_duplicates.filter(pl.col("split") != pl.col("kept_split")).height
    return step.publish(
        {"pages": found.pages, "near_duplicates": found.near_duplicates},
        metadata={"near duplicates": found.near_duplicates.height, "near duplicates across the split": across},
    )


@dg.asset(**asset_options("corpus_chunks", group="corpus", kinds={"polars"}), deps=["corpus_pages"])
def corpus_chunks(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """The scoring pages cut into chunks; the chunks of a page concatenate to it byte for byte."""
    step = Step(context, workspace)
    pages = step.workspace.lake.read("pages", "scoring")
    return step.publish({"chunks": chunk_pages(pages, step.workspace.study, progress=step.report())})


def _by_reason(rejections: pl.DataFrame) -> pl.DataFrame:
    return rejections.group_by("reason").agg(pl.sum("pages", "bytes")).sort("reason")
