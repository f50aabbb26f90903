"""Speed of the page filter next to fastText's own predict, and memory of a selection from 0.1 to 10 GB of pages.

Run: python -m ppl_assets_tests.bench.bench_filter [--gigabytes 0.1 1 3 10] [--only speed|memory|selecting]
     [--scratch FOLDER]

Scoring: `LoadedFilter.score` of texts against fastText's C++ predict of lines that were normalised before, one thread,
CPU seconds, rounds in turn, medians; for ASCII text, for text with accents on every page, for text with typographic
quotes, which are beyond Latin-1, and for the demo's pages.

Memory: what ``selected_pages`` does for the arms ours and uniform, in a process of its own with a worker per core. Its
source are Parquet files of so many gigabytes of text: the first half of one of the demo's pages and the second half of
another, one page in ten a repeat of an earlier one. Ten times a second the resident memory of all its processes is
read; pages that two processes share count in both. The number of pages that may be selected must be that of different
texts. With ``--only selecting`` the rows of ``page_scores`` are made up instead, and only the selection is run.

Writes docs/results/filter.json and .md; what is not run stays as it was.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import polars as pl

from ppl_assets.corpus import Page, read_pages, source_parts, text_digest
from ppl_assets.filtering.classifier import ClassifierSettings, train_classifier
from ppl_assets.filtering.normalization import Normalization
from ppl_assets.filtering.page_scores import SHARD_CHARACTERS, Scoring, part_key, score_source
from ppl_assets.filtering.selection import Tables, select_pages
from ppl_assets.filtering.text_scores import Method
from ppl_assets.processes import available_cores
from ppl_assets.retired import Retired
from ppl_assets.schema import TABLES
from ppl_assets.study import load_study
from ppl_assets.warehouse import Lake, replace_file

RESULTS = Path(__file__).parents[2] / "docs" / "results"
_STUDY = """\
name: bench
corpus:
  source: {kind: parquet, paths: ["pages-*.parquet"], id: url, domain: domain}
  min_page_bytes: 1
targets: {good: {tasks: [{task: t, metric: m, kind: bpb}]}}
mixture: {keep: 0.1}
filter: {arms: [ours, uniform]}
"""
_FILE_BYTES, _SECONDS_BETWEEN_LOOKS = 50_000_000, 0.1


def page_text(rng: np.random.Generator, vocabulary: np.ndarray) -> str:
    """A page of some 4 kB in lines, with words as rare as they are in a language (Zipf)."""
    words = vocabulary[np.minimum(rng.zipf(1.3, 700), len(vocabulary)) - 1]
    return "\n".join(" ".join(words[start : start + 14]) for start in range(0, len(words), 14))


def texts(count: int, seed: int = 0) -> list[str]:
    """So many pages, some with characters beyond ASCII."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwyp"))
    drawn = ["".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(50_000)]
    vocabulary = np.array([word + "é" if number % 50 == 49 else word for number, word in enumerate(drawn)])
    return [page_text(rng, vocabulary) for _ in range(count)]


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def scoring_speed(folder: Path, pages: list[str], rounds: int = 21) -> dict[str, float]:
    """MB of text per CPU second, of both, and their ratio."""
    labels = np.arange(400) % 2.0
    classifier = train_classifier(
        pages[:400], labels, folder / "model.bin", settings=ClassifierSettings(), normalization=Normalization()
    )
    peer = fasttext.FastText._FastText(model_path=str(folder / "model.bin"))
    size = sum(len(text.encode()) for text in pages) / 1e6
    batches = [pages[start : start + 1024] for start in range(0, len(pages), 1024)]
    lines = [[classifier.normalization.line(text) for text in batch] for batch in batches]
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds(lambda: [classifier.score(batch) for batch in batches]))
        theirs.append(seconds(lambda: [peer.f.multilinePredict(batch, 2, 0.0, "strict") for batch in lines]))
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {"megabytes": size, "ours_mb_per_s": size / mine, "fasttext_mb_per_s": size / other, "ratio": other / mine}


class Source:
    """Pages without end, made of the demo's: page k is the first half of one and the second half of another."""

    def __init__(self) -> None:
        demo = load_study("demo")
        halves: dict[str, tuple[str, str, str]] = {}
        for page in read_pages(demo):
            if isinstance(page, Page) and 400 <= len(page.text) <= 12_000:
                lines = page.text.splitlines(keepends=True)
                middle = len(lines) // 2
                halves[page.page_id] = page.domain, "".join(lines[:middle]), "".join(lines[middle:])
        self.domains, self._heads, self._tails = zip(*halves.values(), strict=True)

    def page(self, key: int) -> tuple[str, str]:
        """Domain and text; another key gives other halves until all pairs were used."""
        count = len(self._heads)
        first = key % count
        second = (key // count + first * 7919) % count
        return self.domains[first], self._heads[first] + self._tails[second]

    def write(self, folder: Path, gigabytes: float) -> int:
        """Write files of so much text; returns the number of different texts."""
        rng, texts, total, number = np.random.default_rng(0), set[bytes](), 0, 0
        while total < gigabytes * 1e9:
            rows, size = [], 0
            while size < min(_FILE_BYTES, gigabytes * 1e9 - total):
                domain, text = self.page(int(rng.integers(number)) if number % 10 == 9 else number)
                rows.append((f"https://{domain.replace('/', '.')}.org/{number}.html", domain, text))
                texts.add(text_digest(text))
                size, number = size + len(text.encode()), number + 1
            frame = pl.DataFrame(rows, schema=["url", "domain", "text"], orient="row")
            frame.write_parquet(folder / f"pages-{number:09d}.parquet", row_group_size=1000, compression="lz4")
            total += size
        (folder / "domains.json").write_text(json.dumps(sorted(set(self.domains))))
        return len(texts)

    def write_scores(self, folder: Path, gigabytes: float) -> int:
        """Write rows of ``page_scores`` as scoring so much text would, scores at random; returns as `write`."""
        rng, lake = np.random.default_rng(0), Lake(folder / "lake")
        mean_bytes = sum(map(len, (*self._heads, *self._tails))) / len(self.domains)
        pages, per_shard = round(gigabytes * 1e9 / mean_bytes), round(SHARD_CHARACTERS / mean_bytes)
        key_P = np.arange(pages)
        key_P[9::10] = rng.integers(key_P[9::10])
        for begin in range(0, pages, per_shard):
            keys, shard = key_P[begin : begin + per_shard], f"{part_key(str(begin))}-00000"
            domains = [self.domains[key % len(self.domains)] for key in keys]
            numbers = {name: rng.integers(2**62, size=len(keys)) for name in ("order", "sketch")}
            rows = pl.DataFrame(
                {
                    "shard": shard,
                    "position": np.arange(len(keys)),
                    "page_id": [f"https://{domain}/{begin + n}.html" for n, domain in enumerate(domains)],
                    "domain": domains,
                    "domain_group": None,
                    "language": None,
                    "split": "scoring",
                    "digest": [text_digest(str(key)) for key in keys],
                    "tokens": rng.integers(2000, size=len(keys)),
                    "scores": rng.random((len(keys), 1)).tolist(),
                    **numbers,
                },
                schema_overrides={"domain_group": pl.String, "language": pl.String},
            )
            lake.write("page_scores", rows, partition=shard, fingerprint="")
        (folder / "domains.json").write_text(json.dumps(sorted(set(self.domains))))
        return len(np.unique(key_P))

    def train(self, path: Path) -> None:
        """A classifier of code against prose, of 400 pages."""
        pages = [self.page(key) for key in range(0, 400 * 7, 7)]
        label_P = np.array([float(domain.endswith("/code")) for domain, _ in pages])
        settings, texts = ClassifierSettings(), [text for _, text in pages]
        train_classifier(texts, label_P, path, settings=settings, normalization=Normalization())


def select(folder: Path) -> None:
    """Score and select from the files in a folder; says CPU seconds, pages and how many of them may be selected."""
    (folder / "study.yaml").write_text(_STUDY)
    study, lake = load_study(str(folder / "study.yaml")), Lake(folder / "lake")
    # The quality classifier's path: a bare model, as the filter is without its card.
    model = Method(name="ours/good", arm="quality_classifier", identity="", path=folder / "model.bin",
                   normalization=Normalization(), seed=0)  # fmt: skip
    how = Scoring(study=study, lake=lake.root, methods=[model], retired=Retired(), fingerprint="")
    shards = lake.partitions("page_scores")
    if not shards:
        shards = score_source(how, source_parts(study, folder / "digests"), processes=available_cores())
    scored = sum(os.times()[:4])
    names = json.loads((folder / "domains.json").read_text())
    tables = Tables(
        domains=pl.DataFrame({"domain": names, "policy": "allow", "pages": 1, "tokens": 1}),
        near_duplicates=TABLES["near_duplicates"].polars_schema.to_frame(),
        mixture=TABLES["pretraining_mixture"].polars_schema.to_frame(),
        losses=TABLES["domain_logliks"].polars_schema.to_frame(),
    )
    found = select_pages(study, lake, shards, ["ours/good"], tables, scratch=folder / "scratch", fingerprint="")
    pages = sum(lake.read("page_scores", shard).height for shard in shards)
    pool_pages = int(found["selections"]["pool_pages"][0])
    took = {"scoring": scored, "selecting": sum(os.times()[:4]) - scored}
    sys.stdout.write(json.dumps({"pages": int(pages), "pool_pages": pool_pages, "cpu_seconds": took}))


def resident(pid: int) -> dict[int, int]:
    """Bytes that a process and all that it started hold (VmRSS), by process; one that ends meanwhile is left out."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        children = [
            child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return {}
    held = {pid: sum(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))}
    for child in children:
        held |= resident(int(child))
    return held


def memory(folder: Path, source: Source, gigabytes: float, *, scored: bool) -> dict[str, Any]:
    """What a selection from so many gigabytes took, `scored` before or not."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        texts = (source.write_scores if scored else source.write)(Path(place), gigabytes)
        if not scored:
            source.train(Path(place) / "model.bin")
        command = [sys.executable, "-m", "ppl_assets_tests.bench.bench_filter", "--child", place]
        peak_all, peak_one, began = 0, 0, time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            while process.poll() is None:
                held = resident(process.pid).values()
                peak_all, peak_one = max(peak_all, sum(held)), max(peak_one, *held, 0)
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            said = process.communicate()[0]
        wall = time.monotonic() - began
    found = json.loads(said)
    assert found["pool_pages"] == texts, f"{found['pool_pages']} pages may be selected of {texts} different texts"
    return {**found, "seconds": wall, "peak_all": peak_all, "peak_one": peak_one}


def written(results: dict[str, Any]) -> str:
    """The page of results."""
    speeds = [
        f"| {name} | {speed['ours_mb_per_s']:.1f} | {speed['fasttext_mb_per_s']:.1f} | {speed['ratio']:.2f} |"
        for name, speed in results["speed"].get("found", {}).items()
    ]
    return "\n".join(
        [
            "# Page filter: speed and memory",
            "",
            "Written by `python -m ppl_assets_tests.bench.bench_filter`, whose docstring says how it measures.",
            "",
            "## Speed",
            "",
            results["speed"].get("machine", ""),
            "",
            "Scoring, one thread, MB of text per CPU second: ours from text as it is, fastText's from its lines.",
            "",
            "| text | ours | fastText's C++ predict | ratio |",
            "|---|---|---|---|",
            *speeds,
            "",
            "## Memory",
            "",
            *_memory_table(results["memory"]),
            "## Memory of the selection alone",
            "",
            "Of rows of `page_scores` that are made up.",
            "",
            *_memory_table(results["selecting"]),
        ]
    )


def _memory_table(runs: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of a table, one row a run, and what they ran on."""
    runs = dict(sorted(runs.items(), key=lambda item: float(item[0])))
    return [
        "| GB of text | pages | different texts | peak of all processes, MB | of the largest, MB | CPU s, scoring "
        "| CPU s, selecting | seconds | load average |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {gigabytes} | {run['pages']:,} | {run['pool_pages']:,} | {run['peak_all'] / 1e6:,.0f} "
            f"| {run['peak_one'] / 1e6:,.0f} | {run['cpu_seconds']['scoring']:,.0f} "
            f"| {run['cpu_seconds']['selecting']:,.0f} | {run['seconds']:,.0f} | {run['load']:.1f} |"
            for gigabytes, run in runs.items()
        ),
        "",
    ]


def machine() -> str:
    """What a measurement ran on."""
    cores, load, fasttext = available_cores(), os.getloadavg()[0], version("fasttext-numpy2-wheel")
    return (
        f"{cores} cores, load average at its end {load:.1f}, python {platform.python_version()}, "
        f"fasttext-numpy2-wheel {fasttext}."
    )


def speeds(folder: Path, source: Source) -> dict[str, dict[str, float]]:
    """Speed of each kind of text."""
    accented = texts(2_048)
    plain = [text.replace("é", "e") for text in accented]
    typeset = [text.replace("é", "’") for text in accented]
    demo = [source.page(key)[1] for key in range(2_048)]
    kinds = {"ASCII": plain, "accents": accented, "typographic quotes": typeset, "the demo's pages": demo}
    return {name: scoring_speed(folder, kind) for name, kind in kinds.items()}


def main() -> None:
    """Speed, memory, and the page of results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.1, 1.0, 3.0, 10.0])
    parser.add_argument("--only", choices=["speed", "memory", "selecting"])
    parser.add_argument("--scratch", type=Path, help="folder for half as much text as the most gigabytes")
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child:
        select(options.child)
        return
    data = RESULTS / "filter.json"
    results = json.loads(data.read_text()) if data.exists() else {"speed": {}, "memory": {}, "selecting": {}}
    with tempfile.TemporaryDirectory(dir=options.scratch) as place:
        source = Source()
        if options.only in (None, "speed"):
            results["speed"] = {"found": speeds(Path(place), source), "machine": machine()}
            replace_file(data, json.dumps(results, indent=1) + "\n")
        for gigabytes in options.gigabytes if options.only != "speed" else []:
            scored = options.only == "selecting"
            found = memory(Path(place), source, gigabytes, scored=scored) | {"load": os.getloadavg()[0]}
            results["selecting" if scored else "memory"][f"{gigabytes:g}"] = found
            replace_file(data, json.dumps(results, indent=1) + "\n")
    page = written(results)
    (RESULTS / "filter.md").write_text(page, encoding="utf-8")
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
