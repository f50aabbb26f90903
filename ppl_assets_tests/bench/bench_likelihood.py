"""Scoring speed and memory against the published script and lm-eval: same texts, same machine, alternating.

    python -m ppl_assets_tests.bench.bench_likelihood [--chunks 2000] [--rounds 1]

Every method runs as one single-threaded process per core (the fastest way for each of them), the peers as one process
with a thread per core as well, which is how they come. Writes docs/results/likelihood.json and .md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from ppl_assets.hardware import multiplies_bfloat16
from ppl_assets_tests.bench.likelihood_worker import SHAPES

RESULTS = Path("docs/results")
OUTLIER_TOKENS = 3000
SHORTEST, LONGEST = 10, 512
# Enough for a vocabulary of 50,304, little enough to train it in half a minute.
CORPUS_BYTES = 8_000_000
# Method, dtype, whether in one process with a thread per core.
RUNS = [
    ("ours", "float32", False),
    ("ours", "bfloat16", False),
    ("reference", "float32", False),
    ("lm_eval", "float32", False),
    ("reference", "float32", True),
    ("lm_eval", "float32", True),
    ("reference", "bfloat16", False),
]


def prepare(folder: Path, chunks: int) -> dict[str, int]:
    """Tokenizers and texts in `folder`; tokens of the texts by shape."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*/*.py"))
    corpus = "".join(
        file.read_text(encoding="utf-8", errors="ignore") for file in files if "site-packages" not in str(file)
    )
    corpus = corpus.encode("ascii", "ignore").decode()[:CORPUS_BYTES]
    tokens = {}
    for shape, sizes in SHAPES.items():
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=sizes["vocab_size"], special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(corpus.splitlines(keepends=True), trainer)
        tokenizer.save(str(folder / f"{shape}.json"))
        ids = tokenizer.encode(corpus).ids
        generator = np.random.default_rng(0)
        lengths = [*generator.integers(SHORTEST, LONGEST + 1, chunks).tolist(), OUTLIER_TOKENS]
        begins = generator.integers(0, len(ids) - OUTLIER_TOKENS, len(lengths))
        texts = [tokenizer.decode(ids[begin : begin + length]) for begin, length in zip(begins, lengths, strict=True)]
        (folder / f"{shape}-texts.json").write_text(json.dumps(texts))
        tokens[shape] = sum(len(encoding) for encoding in tokenizer.encode_batch(texts))
    return tokens


def run(folder: Path, shape: str, method: str, dtype: str, *, one_process: bool) -> dict[str, float]:
    """Both cores' worth of one method: wall seconds of the slower process, CPU seconds and nats of all."""
    cores = os.cpu_count() or 1
    parts, threads = (1, cores) if one_process else (cores, 1)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "ppl_assets_tests.bench.likelihood_worker", str(folder), shape, method, dtype]
            + [str(number) for number in (part, parts, threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        for part in range(parts)
    ]
    for worker in workers:
        while worker.stdout.readline().strip() != "ready":
            if worker.poll() is not None:
                raise RuntimeError(f"{method} {dtype} on {shape} failed before it began")
    for worker in workers:
        worker.stdin.write("begin\n")
        worker.stdin.flush()
    answers = [json.loads(worker.communicate()[0].splitlines()[-1]) for worker in workers]
    return {
        "wall_seconds": max(answer["wall_seconds"] for answer in answers),
        "cpu_seconds": sum(answer["cpu_seconds"] for answer in answers),
        "memory_mb": max(answer["memory_mb"] for answer in answers),
        "nats": sum(answer["nats"] for answer in answers),
        "peak_flops_per_second": sum(answer["matmul_flops_per_second"] for answer in answers),
        "flops_per_token": answers[0]["flops_per_token"],
    }


def measure(chunks: int, rounds: int) -> dict[str, Any]:
    """All runs, the methods taking turns within a round; medians over rounds."""
    # Without such instructions bf16 is emulated, many times slower than float32, and nobody would score in it.
    wanted = [key for key in RUNS if multiplies_bfloat16() or key[1] == "float32"]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        tokens = prepare(Path(name), chunks)
        for shape in SHAPES:
            samples: dict[tuple, list[dict[str, float]]] = {key: [] for key in wanted}
            for _ in range(rounds):
                for method, dtype, one_process in wanted:
                    answer = run(Path(name), shape, method, dtype, one_process=one_process)
                    samples[method, dtype, one_process].append(answer)
            rows += [_row(shape, *key, found, tokens[shape]) for key, found in samples.items()]
    return {"machine": machine(), "chunks": chunks, "rounds": rounds, "tokens": tokens, "runs": rows}


def _row(
    shape: str, method: str, dtype: str, one_process: bool, found: list[dict[str, float]], tokens: int
) -> dict[str, Any]:
    middle = {name: median(answer[name] for answer in found) for name in found[0]}
    rate = tokens / middle["wall_seconds"]
    return {
        "shape": shape,
        "method": method,
        "dtype": dtype,
        "processes": "one, a thread per core" if one_process else "one per core",
        "tokens_per_second": rate,
        "tokens_per_cpu_second": tokens / middle["cpu_seconds"],
        "share_of_matmul_peak": rate * middle["flops_per_token"] / middle["peak_flops_per_second"],
        "memory_mb": middle["memory_mb"],
        "nats": middle["nats"],
    }


def machine() -> dict[str, Any]:
    """What figures depend on."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("model name", "flags"))]
    features = set(cpu[1].split()) if len(cpu) > 1 else set()
    return {
        "cpu": cpu[0].split(": ")[1] if cpu else platform.processor(),
        "bf16": sorted(features & {"avx512_bf16", "amx_bf16"}),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "lm_eval": version("lm_eval"),
    }


def ratios(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Ours over the faster peer in float32, by wall clock and by CPU seconds, for each way to use the cores."""
    found = []
    for shape in SHAPES:
        runs = [row for row in results["runs"] if row["shape"] == shape]
        for ours in (row for row in runs if row["method"] == "ours"):
            for processes in sorted({row["processes"] for row in runs}):
                peers = [row for row in runs if row["processes"] == processes and row["method"] != "ours"]
                line = {"shape": shape, "dtype": ours["dtype"], "peer_processes": processes}
                for name in ("tokens_per_second", "tokens_per_cpu_second"):
                    line[name] = ours[name] / max(peer[name] for peer in peers if peer["dtype"] == "float32")
                found.append(line)
    return found


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Likelihood: speed and memory",
        "",
        "Written by `python -m ppl_assets_tests.bench.bench_likelihood`.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in results["machine"].items()]
    lines += [
        f"- texts: {results['chunks']} of {SHORTEST} to {LONGEST} tokens and one of {OUTLIER_TOKENS}, same for all; "
        f"rounds: {results['rounds']} (medians)",
        "",
        "Memory: the peak of a process above what it held at the beginning. Share of peak: useful operations over",
        "those of a 1,024-cubed matrix product in the same dtype, measured in the same processes. CPU seconds suffer",
        "least from what else runs on the machine (load average above).",
        "",
        "| model | method | dtype | processes | tokens/s | tokens/CPU-s | share of peak | memory MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results["runs"]:
        figures = [f"{row['tokens_per_second']:,.0f}", f"{row['tokens_per_cpu_second']:,.0f}"]
        figures += [f"{row['share_of_matmul_peak']:.0%}", f"{row['memory_mb']:,.0f}"]
        lines.append(_table_row(row["shape"], row["method"], row["dtype"], row["processes"], *figures))
    lines += ["", "Ours, one process per core, over the faster peer in float32:", ""]
    lines += ["| model | ours in | the peer's processes | by wall clock | by CPU seconds |", "|---|---|---|---|---|"]
    for line in results["ratios"]:
        figures = [f"{line['tokens_per_second']:.1f} x", f"{line['tokens_per_cpu_second']:.1f} x"]
        lines.append(_table_row(line["shape"], line["dtype"], line["peer_processes"], *figures))
    return "\n".join(lines) + "\n"


def _table_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and write the results, from the repository's root."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = measure(arguments.chunks, arguments.rounds)
    results["ratios"] = ratios(results)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "likelihood.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.results / "likelihood.md").write_text(page(results))


if __name__ == "__main__":
    main()
