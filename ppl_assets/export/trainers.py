"""Configuration files of trainers that read a mixture from a file. Each function names the schema that it follows."""

from typing import Any

from ppl_assets.errors import InputError
from ppl_assets.export.blend import Blend, Share
from ppl_assets.export.weights import dump_yaml


def as_megatron(blend: Blend) -> str:
    """Lines of weight and prefix, for Megatron-LM's ``--data-args-path`` (or, on one line, its ``--data-path``).

    Source: ``megatron.core.datasets.utils.get_blend_from_list``, of megatron-core 0.16. A path is the prefix of an
    ``.idx`` and a ``.bin`` file.

    Raises:
        InputError: a path with white space, which Megatron-LM would cut in two.
    """
    for share in blend.shares:
        if share.path.split() != [share.path]:
            raise InputError(f"--path-template: {share.path!r} holds white space, where Megatron-LM cuts its arguments")
    return "".join(f"{share.weight!r} {share.path}\n" for share in blend.shares)


def as_olmo(blend: Blend) -> str:
    """A YAML list of sources for OLMo-core.

    Source: ``olmo_core.data.source_mixture.SourceMixtureList``, of ai2-olmo-core 3.0. A path is a token file or a
    pattern with ``*``. OLMo-core refuses to repeat a source beyond ``max_repetition_ratio``, which is the study's
    number of epochs.
    """
    sources = [
        {
            "source_name": share.domain,
            "target_ratio": share.weight,
            "paths": [share.path],
            "max_repetition_ratio": max(1.0, share.epochs),
        }
        for share in blend.shares
    ]
    return _headed(blend, {"sources": sources})


def as_mosaicml(blend: Blend) -> str:
    """A YAML mapping of streams, each the arguments of a ``streaming.Stream``, as LLM Foundry's dataset section has it.

    Source: ``streaming.base.stream.Stream``, of mosaicml-streaming 0.13. A path with a scheme (``s3://...``) is
    remote, any other local.
    """
    return _headed(blend, {"streams": {share.name: _stream(share) for share in blend.shares}})


def as_nanotron(blend: Blend) -> str:
    """The section ``data_stages`` of a nanotron configuration: one stage, on tokenized folders ("nanosets").

    Source: ``NanosetDatasetsArgs``, ``DataArgs`` and ``DatasetStageArgs`` in src/nanotron/config/config.py of
    huggingface/nanotron at commit 00708b80; the release on PyPI (0.4) is older than nanosets.
    """
    dataset = {
        "dataset_folder": [share.path for share in blend.shares],
        "dataset_weights": [share.weight for share in blend.shares],
    }
    stage = {
        "name": f"{blend.study} {blend.target}",
        "start_training_step": 1,
        "data": {"dataset": dataset, "num_loading_workers": 1, "seed": blend.seed},
    }
    return _headed(blend, {"data_stages": [stage]})


def _stream(share: Share) -> dict[str, Any]:
    place = "remote" if "://" in share.path else "local"
    return {place: share.path, "proportion": share.weight}


def _headed(blend: Blend, content: dict[str, Any]) -> str:
    return f"# {blend.origin}\n{dump_yaml(content)}"
