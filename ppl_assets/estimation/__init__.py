"""Rank correlations between text losses and errors over models, and whether they can be trusted.

The estimand is, for each text or domain, the correlation over models between (scores of ranks of) its bits per byte and
a target's error. Ties get mid-ranks; a missing loss leaves its model out of that text alone; constants give NaN with a
warning.
The unit of observation in all inference is the model family: checkpoints and sizes of one recipe are not independent.

`product`, `sign`, `sign_cdf`, `sign_sign`, `spearmanr` take the place of the functions of the same names in the package
``perplexity-correlations``; `kendall` adds tau-b, `gumbel` a correlation that looks at low losses, and `gls`, the
default, the same over models that repeat one another. `estimate_domains` adds intervals, p-values and stability,
`signal_gate` says whether the evidence carries a choice at all, `rank_prediction` checks it on held-out families,
`target_errors` makes errors of task metrics, `effective_models` counts what the pool is worth, `propose_probes` names
the small models that would help most, `estimate_by_kind` joins them with public ones, `RankTable` takes models in and
out, `estimate_blocks` reads more texts than memory holds.

Modules load numba and scipy inside functions: importing this room costs numpy and nothing else.
"""

from ppl_assets.estimation.blocks import estimate_blocks, parquet_blocks
from ppl_assets.estimation.domain_estimates import DomainEstimates, estimate_domains
from ppl_assets.estimation.gate import GateVerdict, signal_gate
from ppl_assets.estimation.gls_correlation import Likeness, gls, gls_given, likeness
from ppl_assets.estimation.independence import duplicates, effective_models, gain_of_candidate
from ppl_assets.estimation.kinds import KindEstimates, estimate_by_kind
from ppl_assets.estimation.page_sampling import SampledPages
from ppl_assets.estimation.probe_design import ProbeDesign, propose_probes
from ppl_assets.estimation.rank_correlation import (
    gumbel,
    kendall,
    model_counts,
    product,
    sign,
    sign_cdf,
    sign_sign,
    spearmanr,
)
from ppl_assets.estimation.rank_prediction import RankPrediction, rank_prediction
from ppl_assets.estimation.rank_table import RankTable
from ppl_assets.estimation.targets import (
    TargetErrors,
    check_orientation,
    contrast_target,
    not_separable,
    target_correlations,
    target_errors,
    task_errors,
)

__all__ = [
    "product",
    "sign",
    "sign_cdf",
    "sign_sign",
    "spearmanr",
    "kendall",
    "gumbel",
    "gls",
    "gls_given",
    "likeness",
    "Likeness",
    "model_counts",
    "estimate_domains",
    "DomainEstimates",
    "SampledPages",
    "signal_gate",
    "GateVerdict",
    "rank_prediction",
    "RankPrediction",
    "target_errors",
    "TargetErrors",
    "task_errors",
    "check_orientation",
    "target_correlations",
    "not_separable",
    "contrast_target",
    "effective_models",
    "gain_of_candidate",
    "duplicates",
    "estimate_by_kind",
    "KindEstimates",
    "propose_probes",
    "ProbeDesign",
    "RankTable",
    "estimate_blocks",
    "parquet_blocks",
]
