"""The parsers of trainers, each in a process of its own: ``python -m ppl_assets_tests.export.trainers NAME PATH``.

They are installed without their dependencies (see the Makefile): cloud clients, image codecs and compressors that they
import at load and that reading a mixture never calls. Those are replaced by empty modules; what reads the file, checks
it and derives proportions is the library's own code. Prints JSON: pairs of what identifies a domain and its weight.
"""

import importlib.abc
import importlib.machinery
import json
import runpy
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import yaml

_ABSENT = {
    "olmo": {"cached_path"},
    "mosaicml": {"PIL", "boto3", "botocore", "brotli", "snappy", "torchvision", "zstd"},
    "litgpt": {"boto3", "botocore"},
}
_SAMPLES = 10**12  # in every stream, so that whole samples do not blur proportions


class _EmptyModule(ModuleType):
    """A module of which every name is an empty class, which may be inherited from."""

    __path__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"recoverable_errors": ()})  # olmo_core reads this attribute of a client at load


class _EmptyModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, absent: set[str]) -> None:
        self._absent = absent

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in self._absent:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def megatron(path: Path) -> Iterator[tuple[str, float]]:
    from megatron.core.datasets.utils import get_blend_from_list

    # As megatron.training reads --data-args-path.
    blend = get_blend_from_list(path.read_text().split())
    assert blend is not None
    yield from zip(*blend, strict=True)


def olmo(path: Path) -> Iterator[tuple[str, float]]:
    from olmo_core.data.source_mixture import SourceMixtureList

    # What its `from_yaml` does, but for the download of a path that is a URL.
    mixture = SourceMixtureList.from_dict(yaml.safe_load(path.read_text()))
    mixture.validate()
    for source in mixture.sources:
        source.validate()
        yield source.source_name, source.target_ratio


def mosaicml(path: Path) -> Iterator[tuple[str, float]]:
    from streaming.base.stream import Stream

    arguments = list(yaml.safe_load(path.read_text())["streams"].values())
    streams = [Stream(**each) for each in arguments]
    Stream.apply_weights(streams, np.full(len(streams), _SAMPLES), None, 0)
    for given, stream in zip(arguments, streams, strict=True):
        yield given.get("local") or given["remote"], float(stream.proportion)


def litgpt(path: Path) -> Iterator[tuple[str, float]]:
    """The file's own dataset, over data that litdata's own writer makes where the file looks for it."""
    import torch
    from litdata import TokensLoader
    from litdata.streaming.writer import BinaryWriter

    module = runpy.run_path(str(path))
    for number, (_, data, _) in enumerate(module["DOMAINS"]):
        writer = BinaryWriter(data, chunk_size=4096, item_loader=TokensLoader(block_size=17))
        for row in range(20):
            writer[row] = torch.full((17,), number, dtype=torch.int32)
        writer.done()
        writer.merge()
    mixture = module["train_dataset"](sequence_tokens=16)
    drawn = {int(sequence[0]) for sequence in mixture}
    assert drawn <= set(range(len(module["DOMAINS"])))
    assert drawn
    for (domain, _, _), weight in zip(module["DOMAINS"], mixture._weights, strict=True):
        yield domain, weight


if __name__ == "__main__":
    name, file = sys.argv[1:]
    warnings.simplefilter("ignore")
    sys.meta_path.insert(0, _EmptyModules(_ABSENT.get(name, set())))
    sys.stdout.write("\n" + json.dumps(list(globals()[name](Path(file)))))
