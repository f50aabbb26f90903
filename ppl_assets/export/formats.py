"""The formats by name, and the one function that reads a mixture and writes a file."""

from collections.abc import Callable
from pathlib import Path

from ppl_assets.errors import InputError, suggestion
from ppl_assets.export.blend import Blend, blend_of
from ppl_assets.export.lists import as_domain_list, as_page_list
from ppl_assets.export.python_files import as_huggingface, as_litgpt
from ppl_assets.export.trainers import as_megatron, as_mosaicml, as_nanotron, as_olmo
from ppl_assets.export.weights import as_csv, as_json, as_yaml
from ppl_assets.mixture.tables import epochs_by_domain
from ppl_assets.orchestration.workspace import SPLITS, Workspace
from ppl_assets.warehouse import replace_file

_PAGES = "pages"
_OF_BLEND: dict[str, Callable[[Blend], str | bytes]] = {
    "yaml": as_yaml,
    "json": as_json,
    "csv": as_csv,
    "megatron": as_megatron,
    "olmo": as_olmo,
    "mosaicml": as_mosaicml,
    "nanotron": as_nanotron,
    "litgpt": as_litgpt,
    "huggingface": as_huggingface,
    "domains": as_domain_list,
}
FORMATS = (*_OF_BLEND, _PAGES)


def export_mixture(workspace: Workspace, *, target: str, format: str, out: Path, template: str) -> Blend:
    """Write one target's mixture to `out`, whole or not at all; a file that stands there is replaced.

    Args:
        format: one of `FORMATS`.
        template: path of a domain's data, with ``{domain}``.

    Raises:
        InputError: an unknown format or target, no mixture yet, or `out` cannot be written.
    """
    if format not in FORMATS:
        raise InputError(f"--format: found {format!r}, expected one of {list(FORMATS)}{suggestion(format, FORMATS)}")
    if out.is_dir():
        raise InputError(f"--out: {out} is a folder, expected the path of a file")
    if not out.parent.is_dir():
        raise InputError(f"--out: {out.parent} is no folder, expected one that exists")
    blend = _blend(workspace, target, template)
    if format == _PAGES:
        pages = workspace.lake.read_partitions("pages", [split for split in SPLITS if _has_pages(workspace, split)])
        replace_file(out, as_page_list(blend, pages))
    else:
        replace_file(out, _OF_BLEND[format](blend))
    return blend


def _blend(workspace: Workspace, target: str, template: str) -> Blend:
    footer = workspace.lake.footer("pretraining_mixture")
    if footer is None:
        raise InputError(f"{workspace.settings.state}: holds no mixture yet; run `ppl-assets run` first")
    settings = workspace.study.mixture
    mixture = workspace.table("pretraining_mixture")
    domains = mixture["domain"].unique().to_list()
    return blend_of(
        mixture,
        study=workspace.study.name,
        target=target,
        version=footer.data_version,
        seed=workspace.study.seed,
        template=template,
        epochs=dict.fromkeys(domains, settings.max_epochs) | epochs_by_domain(settings, domains),
    )


def _has_pages(workspace: Workspace, split: str) -> bool:
    return workspace.lake.exists("pages", split)
