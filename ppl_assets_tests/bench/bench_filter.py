"""Speed of the page filter next to fastText's own predict, and memory of a selection from 1 and from 10 GB of pages.

Run: python -m ppl_assets_tests.bench.bench_filter [--gigabytes 1 10] [--pages 20000]

Scoring: `LoadedFilter.score` of texts against fastText's C++ predict of lines that were normalised before, one thread,
CPU seconds, rounds in turn, medians; for ASCII text, for text with accents on every page, and for text with
typographic quotes, which are beyond Latin-1. Memory: the largest
resident set of a process, beyond what a first small pass left it with, that scores and selects from JSONL files of so
many gigabytes (links to one file, so that the disk need not hold them: ids differ, texts repeat). Writes
docs/results/filter.md.
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

import numpy as np
import polars as pl

from ppl_assets.filtering.classifier import ClassifierSettings, train_classifier
from ppl_assets.filtering.normalization import Normalization

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "filter.md"
_STUDY = """\
name: bench
corpus: {{source: {{kind: jsonl, paths: ["{name}-*.jsonl"], domain: site}}}}
targets: {{good: {{tasks: [{{task: t, metric: m, kind: bpb}}]}}}}
mixture: {{keep: 0.1}}
filter: {{arms: [ours, rules, uniform]}}
"""


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
    size = sum(len(text.encode()) for text in pages) / 1e6
    batches = [pages[start : start + 1024] for start in range(0, len(pages), 1024)]
    lines = [[classifier.normalization.line(text) for text in batch] for batch in batches]
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds(lambda: [classifier.score(batch) for batch in batches]))
        theirs.append(
            seconds(lambda: [classifier.model.f.multilinePredict(batch, 2, 0.0, "strict") for batch in lines])
        )
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {"megabytes": size, "ours_mb_per_s": size / mine, "fasttext_mb_per_s": size / other, "ratio": other / mine}


def write_source(folder: Path, pages: list[str], gigabytes: float) -> None:
    """One file of pages, under as many names as it takes."""
    rows = [json.dumps({"text": text, "site": f"site{n % 50}.org"}) + "\n" for n, text in enumerate(pages)]
    (folder / "pages.jsonl").write_text("".join(rows))
    size = (folder / "pages.jsonl").stat().st_size
    for number in range(max(1, round(gigabytes * 1e9 / size))):
        os.link(folder / "pages.jsonl", folder / f"part-{number:04d}.jsonl")
    os.link(folder / "pages.jsonl", folder / "first-0.jsonl")


def held(name: str) -> int:
    """Bytes that this process holds (VmRSS) or has held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def select(folder: Path, name: str) -> tuple[float, int]:
    """Score and select in this process; seconds of CPU and pages."""
    from ppl_assets.corpus import source_parts
    from ppl_assets.filtering.page_scores import Scoring, score_source
    from ppl_assets.filtering.selection import Tables, select_pages
    from ppl_assets.filtering.text_scores import Method
    from ppl_assets.retired import Retired
    from ppl_assets.schema import TABLES
    from ppl_assets.study import load_study
    from ppl_assets.warehouse import Lake

    path = folder / f"{name}.yaml"
    path.write_text(_STUDY.format(name=name))
    study, lake = load_study(str(path)), Lake(folder / name)
    # The quality classifier's path: a bare model, as the filter is without its card.
    model = Method(name="ours/good", arm="quality_classifier", identity="", path=folder / "model.bin",
                   normalization=Normalization(), seed=0)  # fmt: skip
    rules = Method(name="rules", arm="rules", identity="", normalization=Normalization(), seed=0)
    how = Scoring(study=study, lake=lake.root, methods=[model, rules], retired=Retired(), fingerprint="")
    began = time.process_time()
    shards = score_source(how, source_parts(study, folder / "digests"), processes=1)
    domains = pl.DataFrame({"domain": [f"site{n}.org" for n in range(50)], "policy": "allow", "pages": 1, "tokens": 1})
    empty = {name: TABLES[name].polars_schema.to_frame() for name in ("near_duplicates", "pretraining_mixture")}
    tables = Tables(
        domains=domains,
        near_duplicates=empty["near_duplicates"],
        mixture=empty["pretraining_mixture"],
        losses=TABLES["domain_logliks"].polars_schema.to_frame(),
    )
    select_pages(
        study, lake, shards, ["ours/good", "rules"], tables, scratch=folder / f"{name}-scratch", fingerprint=""
    )
    pages = sum(lake.read("page_shards", part)["pages"].sum() for part in lake.partitions("page_shards"))
    return time.process_time() - began, int(pages)


def child(folder: Path) -> None:
    """One small pass, then the whole source; what the second one took."""
    select(folder, "first")
    before = held("VmHWM")
    cpu, pages = select(folder, "part")
    sys.stdout.write(json.dumps({"grown": held("VmHWM") - before, "peak": held("VmHWM"), "cpu": cpu, "pages": pages}))


def memory(folder: Path, pages: list[str], gigabytes: float) -> dict[str, float]:
    """What a process of its own took for a source of so many gigabytes."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        write_source(Path(place), pages, gigabytes)
        os.link(folder / "model.bin", Path(place) / "model.bin")
        command = [sys.executable, "-m", "ppl_assets_tests.bench.bench_filter", "--child", place]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"gigabytes": gigabytes, **found}


def written(speeds: dict[str, dict[str, float]], runs: list[dict[str, float]]) -> str:
    """The page of results."""
    rows = [
        f"| {run['gigabytes']:g} | {run['pages']:,} | {run['peak'] / 1e6:,.0f} | {run['grown'] / 1e6:,.0f} "
        f"| {run['gigabytes'] * 1000 / run['cpu']:.1f} |"
        for run in runs
    ]
    load = os.getloadavg()[0]
    return "\n".join(
        [
            "# Page filter: speed and memory",
            "",
            "Written by `python -m ppl_assets_tests.bench.bench_filter`, whose docstring says how it measures.",
            "",
            f"- cores: {len(os.sched_getaffinity(0))}; load average while it ran: {load:.1f}; CPU seconds are used",
            f"- python {platform.python_version()}, fasttext-numpy2-wheel {version('fasttext-numpy2-wheel')}",
            "",
            "Scoring, one thread, MB of text per CPU second: ours from text as it is, fastText's from its lines.",
            "",
            "| text | ours | fastText's C++ predict | ratio |",
            "|---|---|---|---|",
            *(
                f"| {name} | {speed['ours_mb_per_s']:.1f} | {speed['fasttext_mb_per_s']:.1f} | {speed['ratio']:.2f} |"
                for name, speed in speeds.items()
            ),
            "",
            "| GB of JSONL | pages | peak memory, MB | above a small first pass, MB | MB per CPU second, all steps |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Speed, memory, and the page of results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--pages", type=int, default=20_000)
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    pages = texts(options.pages)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        accented = pages[:2_048]
        plain = [text.replace("é", "e") for text in accented]
        typeset = [text.replace("é", "’") for text in accented]
        kinds = {"ASCII": plain, "accents": accented, "typographic quotes": typeset}
        speeds = {name: scoring_speed(folder, kind) for name, kind in kinds.items()}
        runs = [memory(folder, pages, gigabytes) for gigabytes in options.gigabytes]
    page = written(speeds, runs)
    RESULTS.write_text(page, encoding="utf-8")
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
