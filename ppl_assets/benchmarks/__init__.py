"""Benchmarks: how well each model does, by lm-eval's own evaluator, on public tasks or on tasks from held-out pages.

Error direction: scores are kept as lm-eval reports them, higher or lower is better as the target states; only
``benchmark_errors`` turns them round. Samples are questions answered; a question that a task's ``limit`` cuts off is
not counted.

    build     held-out pages -> lm-eval task files
    overlap   which items stand in text that models or losses have seen
    evaluate  model and tasks -> scores, checked against what targets expect
"""

from ppl_assets.benchmarks.build import build_task
from ppl_assets.benchmarks.evaluate import check_scores, evaluate

__all__ = ["build_task", "check_scores", "evaluate"]
