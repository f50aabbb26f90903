"""Every table, declared once: grain, keys, columns, types, units, meaning.

Dagster's column metadata, the empty tables of DuckDB, the checks before a write and the reference in the docs all come
from here. Types are Polars types; a column may be null only where it says so.
"""

from dataclasses import dataclass, field

import polars as pl


@dataclass(frozen=True, slots=True)
class Column:
    """One column: what it means, in which unit, and whether it may be null."""

    name: str
    dtype: pl.DataType
    meaning: str
    nullable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of the lake.

    `grain` says what one row is; `keys` identify it; `partition` names the column that has one file per value
    (None: one file). Only tables with `published` go into ``warehouse.duckdb``: the others hold text or
    single chunks.
    """

    name: str
    grain: str
    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    partition: str | None = None
    published: bool = True
    by_name: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {column.name: column for column in self.columns})

    @property
    def polars_schema(self) -> pl.Schema:
        """Column names and Polars types, in order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})


TEXT, INT, REAL, BOOL, BINARY = pl.String(), pl.Int64(), pl.Float64(), pl.Boolean(), pl.Binary()
REALS = pl.List(pl.Float64())

_TABLES = (
    Table(
        name="imported_bpb",
        grain="one model and domain whose loss was computed elsewhere",
        keys=("slug", "domain"),
        columns=(
            Column("slug", TEXT, "the model"),
            Column("family", TEXT, "models of one maker and recipe"),
            Column("source", TEXT, "Hugging Face repository, where the file names one", nullable=True),
            Column("revision", TEXT, "revision, where the file names one", nullable=True),
            Column("domain", TEXT, "the domain"),
            Column("nll", REAL, "negative log-likelihood of the domain's text, nats", nullable=True),
            Column("tokens", INT, "tokens under the model's tokenizer", nullable=True),
            Column("bytes", INT, "UTF-8 bytes", nullable=True),
            Column("bpb", REAL, "bits per byte"),
            Column("fingerprint", TEXT, "hash of what it was computed from, where the file states it", nullable=True),
        ),
    ),
    Table(
        name="imported_scores",
        grain="one model, task and metric whose score was computed elsewhere",
        keys=("slug", "task", "metric"),
        columns=(
            Column("slug", TEXT, "the model"),
            Column("family", TEXT, "models of one maker and recipe"),
            Column("source", TEXT, "Hugging Face repository, where the file names one", nullable=True),
            Column("revision", TEXT, "revision, where the file names one", nullable=True),
            Column("task", TEXT, "the task"),
            Column("metric", TEXT, "the metric"),
            Column("value", REAL, "its value"),
            Column("stderr", REAL, "standard error over samples", nullable=True),
            Column("samples", INT, "questions answered", nullable=True),
        ),
    ),
    Table(
        name="domains",
        grain="one domain of the corpus",
        keys=("domain",),
        columns=(
            Column("domain", TEXT, "name of the source of text"),
            Column(
                "domain_group",
                TEXT,
                "group that a domain shares statistical strength with, such as its kind",
                nullable=True,
            ),
            Column("pages", INT, "usable pages in the whole source, not only in the sample", nullable=True),
            Column("bytes", INT, "UTF-8 bytes of these pages", nullable=True),
            Column("tokens", INT, "reference tokens of these pages", nullable=True),
            Column("language", TEXT, "language that most pages state", nullable=True),
            Column("license", TEXT, "licence that most pages state", nullable=True),
            Column("maker", TEXT, "who publishes the domain, as most pages state it", nullable=True),
            Column("policy", TEXT, "allow, or deny where the rules leave out every page"),
            Column("policy_reason", TEXT, "the rule that decided, with its owner and date", nullable=True),
        ),
    ),
    Table(
        name="page_rejections",
        grain="one domain and reason for which pages were left out",
        keys=("domain", "reason"),
        columns=(
            Column("domain", TEXT, "name of the source of text; empty where the row had none"),
            Column(
                "reason",
                TEXT,
                "empty, null, not_utf8, not_parsable, no_domain, denied, too_short, too_long, duplicate_id, "
                "exact_duplicate, too_few_pages (in its domain) or near_duplicate (of a sampled page)",
            ),
            Column("pages", INT, "pages left out for this reason"),
            Column("bytes", INT, "UTF-8 bytes of these pages"),
            Column("example", TEXT, "the first such page in order of page id", nullable=True),
        ),
    ),
    Table(
        name="page_sample",
        grain="one page drawn for the sample, before near duplicates are taken out",
        keys=("page_id",),
        published=False,
        columns=(
            Column("page_id", TEXT, "identity of the page within the study"),
            Column("domain", TEXT, "the domain it belongs to"),
            Column("split", TEXT, "training, scoring or benchmark"),
            Column("order", INT, "seeded hash of the page id; the smallest are sampled"),
            Column("digest", BINARY, "128-bit digest of the text"),
            Column("bytes", INT, "UTF-8 bytes of the text"),
            Column("tokens", INT, "reference tokens of the text"),
        ),
    ),
    Table(
        name="near_duplicates",
        grain="one sampled page that was taken out because it nearly repeats another",
        keys=("page_id",),
        columns=(
            Column("page_id", TEXT, "the page taken out"),
            Column("domain", TEXT, "its domain"),
            Column("split", TEXT, "its part of the corpus"),
            Column("kept_page_id", TEXT, "the page that stays"),
            Column("kept_split", TEXT, "that page's part of the corpus"),
            Column("similarity", REAL, "Jaccard similarity of their word 5-grams"),
        ),
    ),
    Table(
        name="pages",
        grain="one sampled page",
        keys=("page_id",),
        partition="split",
        published=False,
        columns=(
            Column("page_id", TEXT, "identity of the page within the study"),
            Column("domain", TEXT, "the domain it belongs to"),
            Column("split", TEXT, "training, scoring or benchmark: what the page may be used for"),
            Column("bytes", INT, "UTF-8 bytes of the text"),
            Column("tokens", INT, "reference tokens of the text"),
            Column("text", TEXT, "the text"),
        ),
    ),
    Table(
        name="chunks",
        grain="one chunk of a scoring page; the chunks of a page concatenate to it byte for byte",
        keys=("chunk_id",),
        published=False,
        columns=(
            Column("chunk_id", TEXT, "page id, '#', position"),
            Column("page_id", TEXT, "the page it was cut from"),
            Column("domain", TEXT, "the domain it belongs to"),
            Column("position", INT, "place in the page, from 0"),
            Column("bytes", INT, "UTF-8 bytes of the text"),
            Column("tokens", INT, "reference tokens of the text"),
            Column("text", TEXT, "the text"),
        ),
    ),
    Table(
        name="benchmark_tasks",
        grain="one lm-eval task that the study builds from its benchmark pages",
        keys=("task",),
        columns=(
            Column("task", TEXT, "name of the task"),
            Column("form", TEXT, "choice (four-way continuation) or continuation (bits per byte of the right one)"),
            Column("items", INT, "questions in the task"),
            Column("pages", INT, "benchmark pages that the questions come from"),
            Column("digest", TEXT, "sha256 of the task's files"),
        ),
    ),
    Table(
        name="zoo_checkpoints",
        grain="one checkpoint of a training run of the study's own pool",
        keys=("run", "step"),
        partition="run",
        columns=(
            Column("run", TEXT, "the training run"),
            Column("step", INT, "optimizer steps taken"),
            Column("slug", TEXT, "the model that this checkpoint is"),
            Column("family", TEXT, "models of one maker and recipe"),
            Column("params", INT, "parameters"),
            Column("tokens", INT, "training tokens seen"),
            Column("training_loss", REAL, "mean loss of the last ten steps, nats per token"),
            Column("weights_digest", TEXT, "sha256 of the weights"),
        ),
    ),
    Table(
        name="models",
        grain="one causal language model at one revision",
        keys=("slug",),
        columns=(
            Column("slug", TEXT, "validated key of the model, also its partition"),
            Column("family", TEXT, "models of one maker and recipe"),
            Column("run", TEXT, "training run; its checkpoints share it"),
            Column("kind", TEXT, "public, or probe for a model trained on a designed mixture"),
            Column("source", TEXT, "folder, Hugging Face repository, 'zoo' or 'imported'"),
            Column("revision", TEXT, "pinned revision, or the digest of local weights", nullable=True),
            Column("params", INT, "parameters", nullable=True),
            Column("license", TEXT, "licence of the weights", nullable=True),
            Column("maker", TEXT, "organisation that trained it", nullable=True),
            Column("weights_digest", TEXT, "sha256 of the weights, where they are at hand", nullable=True),
            Column(
                "status",
                TEXT,
                "ready, duplicate (same weights as another), unusable (checkpoint not whole) or denied (model_policy)",
            ),
            Column("status_reason", TEXT, "why it is not ready", nullable=True),
        ),
    ),
    Table(
        name="benchmark_scores",
        grain="one model, task and metric",
        keys=("slug", "task", "metric"),
        partition="slug",
        columns=(
            Column("slug", TEXT, "the model"),
            Column("task", TEXT, "the lm-eval task"),
            Column("metric", TEXT, "the metric, as lm-eval names it"),
            Column("value", REAL, "its value"),
            Column("stderr", REAL, "standard error over samples", nullable=True),
            Column("samples", INT, "questions answered", nullable=True),
        ),
    ),
    Table(
        name="benchmark_errors",
        grain="one model and target",
        keys=("slug", "target"),
        columns=(
            Column("slug", TEXT, "the model"),
            Column("target", TEXT, "named group of tasks to optimise for"),
            Column("error", REAL, "mean over the target's tasks of the standardised error; lower is better"),
            Column("tasks", INT, "tasks that the error is the mean of"),
        ),
    ),
    Table(
        name="chunk_logliks",
        grain="one model and chunk",
        keys=("slug", "chunk_id"),
        partition="slug",
        published=False,
        columns=(
            Column("slug", TEXT, "the model"),
            Column("chunk_id", TEXT, "the chunk"),
            Column("nll", REAL, "negative log-likelihood of all tokens given one BOS, nats", nullable=True),
            Column("nll_first", REAL, "the first token's share of it, nats", nullable=True),
            Column("tokens", INT, "tokens under the model's tokenizer, BOS not counted"),
            Column("bytes", INT, "UTF-8 bytes"),
            Column("bytes_first", INT, "UTF-8 bytes of the first token"),
            Column("status", TEXT, "ok, empty, too_long, non_finite, tokenizer_lossy or refused"),
            Column("text_digest", BINARY, "128-bit digest of the chunk's text"),
            Column("scoring_digest", TEXT, "hash of all else that decides the numbers: model, settings, code"),
        ),
    ),
    Table(
        name="domain_logliks",
        grain="one model and domain",
        keys=("slug", "domain"),
        partition="slug",
        columns=(
            Column("slug", TEXT, "the model"),
            Column("domain", TEXT, "the domain"),
            Column("nll", REAL, "sum of the chunks' NLL, nats", nullable=True),
            Column("tokens", INT, "sum of the chunks' tokens under the model's tokenizer", nullable=True),
            Column("bytes", INT, "sum of the chunks' UTF-8 bytes", nullable=True),
            Column("chunks", INT, "chunks scored", nullable=True),
            Column("chunks_missing", INT, "chunks without a usable score", nullable=True),
            Column("bpb", REAL, "bits per byte: nll / (ln 2 x bytes)", nullable=True),
        ),
    ),
    Table(
        name="correlation_estimates",
        grain="one target, estimator and domain",
        keys=("target", "estimator", "domain"),
        columns=(
            Column("target", TEXT, "the target"),
            Column("estimator", TEXT, "the statistic, such as spearmanr"),
            Column("domain", TEXT, "the domain"),
            Column(
                "estimate", REAL, "correlation of the domain's BPB with the target's error over models", nullable=True
            ),
            Column("stderr", REAL, "standard error over model families and, where known, pages", nullable=True),
            Column("page_stderr", REAL, "the part of it that the choice of pages adds", nullable=True),
            Column("ci_low", REAL, "lower end of the interval", nullable=True),
            Column("ci_high", REAL, "upper end of the interval", nullable=True),
            Column(
                "p_value", REAL, "against 'no different from the pool': the correlation of the mean loss", nullable=True
            ),
            Column("q_value", REAL, "Benjamini-Hochberg over the target's domains", nullable=True),
            Column(
                "selection_probability",
                REAL,
                "share of half-samples of families in which the domain is selected",
                nullable=True,
            ),
            Column("given_size", REAL, "partial rank correlation given model size", nullable=True),
            Column("given_mean_loss", REAL, "partial rank correlation given mean loss", nullable=True),
            Column("within_family", REAL, "association inside families", nullable=True),
            Column("between_family", REAL, "association between family means", nullable=True),
            Column("shrunken", REAL, "estimate shrunk toward its group", nullable=True),
            Column("models", INT, "models with a loss on the domain and an error on the target"),
        ),
    ),
    Table(
        name="kind_estimates",
        grain="one target, kind of models and domain; none where the pool has one kind",
        keys=("target", "kind", "domain"),
        columns=(
            Column("target", TEXT, "the target"),
            Column("kind", TEXT, "public, probe or combined"),
            Column("domain", TEXT, "the domain"),
            Column("estimate", REAL, "correlation over the models of that kind, or of both combined", nullable=True),
            Column("weight", REAL, "what the kind counts in the combination, by leave-family-out prediction"),
            Column("models", INT, "models of the kind with an error on the target"),
        ),
    ),
    Table(
        name="signal_gate",
        grain="one target",
        keys=("target",),
        columns=(
            Column("target", TEXT, "the target"),
            Column("verdict", TEXT, "select, weak or abstain"),
            Column("reason", TEXT, "the verdict in one sentence"),
            Column("effective_models", REAL, "independent models that the pool amounts to"),
            Column("reliability", REAL, "split-half reliability of the estimates over families", nullable=True),
            Column(
                "heterogeneity_p",
                REAL,
                "p-value of 'all domains correlate alike' under family resampling",
                nullable=True,
            ),
            Column("delta_r2", REAL, "gain over mean loss in leave-one-family-out rank prediction", nullable=True),
        ),
    ),
    Table(
        name="domain_audits",
        grain="one target and domain: what its estimate hangs on",
        keys=("target", "domain"),
        columns=(
            Column("target", TEXT, "the target"),
            Column("domain", TEXT, "the domain"),
            Column("estimate", REAL, "the study's estimate, as correlation_estimates has it", nullable=True),
            Column("strongest_family", TEXT, "family of models whose absence moves the estimate most", nullable=True),
            Column("estimate_without_it", REAL, "the estimate over the models of all other families", nullable=True),
            Column("estimate_least", REAL, "lowest estimate with any one family left out", nullable=True),
            Column("estimate_greatest", REAL, "highest estimate with any one family left out", nullable=True),
            Column("pages", INT, "scored pages of the domain; null where its text is not at hand", nullable=True),
            Column(
                "page_agreement",
                REAL,
                "share of its pages whose own estimate is on the same side of the mean domain as the domain's",
                nullable=True,
            ),
            Column("page_spread", REAL, "standard deviation of the estimates of its pages", nullable=True),
            Column(
                "page_stderr",
                REAL,
                "standard error of the estimate from the sampling of pages: half the difference between the estimates "
                "from every other page",
                nullable=True,
            ),
            Column(
                "overlapping_pages", INT, "scored pages that share 64 bytes with a task of the target", nullable=True
            ),
            Column("overlapping_share", REAL, "their share of the domain's scored bytes", nullable=True),
            Column("estimate_without_overlap", REAL, "the estimate without these pages in any domain", nullable=True),
            Column("tasks_not_read", TEXT, "tasks whose texts could not be read to compare with", nullable=True),
        ),
    ),
    Table(
        name="target_pairs",
        grain="one pair of targets",
        keys=("target", "other"),
        columns=(
            Column("target", TEXT, "one target"),
            Column("other", TEXT, "the other one"),
            Column("rho", REAL, "rank correlation of their errors over models", nullable=True),
            Column("models", INT, "models that have both errors"),
            Column("separable", BOOL, "false where rho is beyond 0.95: these models cannot tell the two apart"),
        ),
    ),
    Table(
        name="candidate_gains",
        grain="one target and family of which one more model could join",
        keys=("target", "family"),
        columns=(
            Column("target", TEXT, "the target"),
            Column("family", TEXT, "the family; (new) for one that is not in the pool"),
            Column("models", INT, "models of the family with losses and an error"),
            Column("gain", REAL, "effective models that one more model would add"),
        ),
    ),
    Table(
        name="probe_proposals",
        grain="one small model that is worth training; none where the pool tells all targets apart",
        keys=("run",),
        columns=(
            Column("run", TEXT, "name for the training run"),
            Column("place", INT, "1 for the one that adds most, then what adds most to those before"),
            Column("mixture", TEXT, "JSON: share of each group of domains"),
            Column("snippet", TEXT, "the run as YAML, an entry for the study's zoo.runs"),
            Column("reason", TEXT, "what the pool cannot tell"),
        ),
    ),
    Table(
        name="rank_prediction",
        grain="one target and model, predicted without its family",
        keys=("target", "slug"),
        columns=(
            Column("target", TEXT, "the target"),
            Column("slug", TEXT, "the model"),
            Column("error", REAL, "its error on the target"),
            Column("predicted_rank", REAL, "rank predicted from the losses, best is 1", nullable=True),
            Column("actual_rank", REAL, "rank by error, best is 1"),
            Column("held_out_family", TEXT, "the family left out of the fit"),
            Column("mean_loss_rank", REAL, "rank predicted from the mean loss alone", nullable=True),
            Column("size_rank", REAL, "rank predicted from the parameters alone", nullable=True),
            Column("pca_rank", REAL, "rank predicted from the first principal component of losses", nullable=True),
        ),
    ),
    Table(
        name="pretraining_mixture",
        grain="one mixture and domain",
        keys=("target", "domain"),
        columns=(
            Column("target", TEXT, "the mixture: of a target by its name, of several mean, max_min, pareto-1, ..."),
            Column("domain", TEXT, "the domain"),
            Column("weight", REAL, "share of the mixture; sums to 1 over a mixture's domains"),
            Column("cap", REAL, "largest weight: epochs allowed x tokens / budget"),
            Column("estimate", REAL, "the estimate that the decision rests on; of several targets the mean", True),
            Column("tokens", INT, "tokens of the budget that the domain gets"),
            Column("decision", TEXT, "selected, partial, not selected, excluded or fallback"),
            Column("reason", TEXT, "the decision in one sentence"),
            Column("kind", TEXT, "target (one alone), mean, max_min or pareto"),
            Column("used", BOOL, "whether this is the mixture that the study says to train on"),
        ),
    ),
    Table(
        name="mixture_gains",
        grain="one mixture and target that it may serve",
        keys=("mixture", "target"),
        columns=(
            Column("mixture", TEXT, "the mixture, as `target` of pretraining_mixture names it"),
            Column("kind", TEXT, "target (one alone), mean, max_min or pareto"),
            Column("target", TEXT, "the target"),
            Column("target_weight", REAL, "how much the target counted; of a point of the front, what would give it"),
            Column("expected_estimate", REAL, "sum of weight x estimate on the target", True),
            Column(
                "gain",
                REAL,
                "0 as the pool, 1 as the best mixture for the target alone; null where the gate abstains",
                nullable=True,
            ),
        ),
    ),
    Table(
        name="shadow_prices",
        grain="one mixture and rule that binds it",
        keys=("target", "rule"),
        columns=(
            Column("target", TEXT, "the mixture"),
            Column("rule", TEXT, "cap of a domain, floor or ceiling of a group, safety margin, or bound on churn"),
            Column(
                "price",
                REAL,
                "expected estimate (max_min: gain of the target served worst) gained per unit of the mixture by which "
                "the rule is relaxed",
            ),
            Column("sentence", TEXT, "the same in words, for one per cent of the mixture"),
        ),
    ),
    Table(
        name="mixture_changes",
        grain="one mixture and domain, against the mixture that was made last from other inputs",
        keys=("target", "domain"),
        columns=(
            Column("target", TEXT, "the mixture"),
            Column("domain", TEXT, "the domain; all that have left the catalog stand in one row"),
            Column(
                "change", TEXT, "entered, left, moved or same; null where there is no mixture to compare with", True
            ),
            Column("weight_before", REAL, "share of the previous mixture", nullable=True),
            Column("weight_after", REAL, "share of the mixture"),
            Column("why", TEXT, "what changed, in one sentence", nullable=True),
            Column("estimate_before", REAL, "the estimate that the previous decision rested on", nullable=True),
            Column("estimate_after", REAL, "the estimate that the decision rests on", nullable=True),
            Column("cap_before", REAL, "largest weight in the previous mixture", nullable=True),
            Column("cap_after", REAL, "largest weight", nullable=True),
            Column("decision_before", TEXT, "the previous decision", nullable=True),
            Column("decision_after", TEXT, "the decision", nullable=True),
        ),
    ),
    Table(
        name="certificates",
        grain="one target and domain that its mixture trains on",
        keys=("target", "domain"),
        columns=(
            Column("target", TEXT, "the target"),
            Column("domain", TEXT, "the domain"),
            Column("verdict", TEXT, "of the gate"),
            Column("decision", TEXT, "selected, partial, not selected (its part of the safety margin) or fallback"),
            Column("weight", REAL, "share of the mixture"),
            Column("cap", REAL, "largest weight"),
            Column("weight_at_two_epochs", REAL, "its weight if every domain could be repeated twice", nullable=True),
            Column("estimate", REAL, "the estimate that the decision rests on", nullable=True),
            Column("ci_low", REAL, "lower end of its interval", nullable=True),
            Column("ci_high", REAL, "upper end of it", nullable=True),
            Column("selection_probability", REAL, "as in correlation_estimates", nullable=True),
            Column("estimate_without_family", REAL, "without the family that moves it most", nullable=True),
            Column("estimate_without_overlap", REAL, "without pages that share text with the tasks", nullable=True),
            Column("license", TEXT, "licence that most pages state", nullable=True),
            Column("certificate", TEXT, "all of it as JSON: decision, evidence, audit, policy, provenance"),
        ),
    ),
    Table(
        name="next_measurements",
        grain="one target and measurement that would make its choice surer",
        keys=("target", "measurement"),
        columns=(
            Column("target", TEXT, "the target"),
            Column("measurement", TEXT, "what would be measured, in words"),
            Column("kind", TEXT, "model (public), probe (trained on a designed mixture), pages or questions"),
            Column("shrinks", REAL, "share of the variance of differences between estimates that it takes away"),
            Column("flops", REAL, "floating-point operations that it takes", nullable=True),
            Column(
                "place",
                INT,
                "by variance taken away per operation, or per measurement where those of one are unknown; best is 1",
            ),
        ),
    ),
    Table(
        name="page_filters",
        grain="one target",
        keys=("target",),
        columns=(
            Column("target", TEXT, "the target"),
            Column("status", TEXT, "trained, or none where the labels tell no domains apart"),
            Column("reason", TEXT, "the status in one sentence"),
            Column("labels", TEXT, "what a domain's pages are labelled by: better, mixture or stability"),
            Column("mixture", TEXT, "hash of the rows of pretraining_mixture that the labels come from"),
            Column("model_digest", TEXT, "sha256 of model.bin", nullable=True),
            Column(
                "threshold", REAL, "score from which pages fill the budget, estimated on sampled pages", nullable=True
            ),
            Column("pages", INT, "sampled pages with a label"),
            Column("included", INT, "of these, pages more likely to be included than not"),
            Column("domains", INT, "their domains"),
            Column("groups", INT, "their groups: sites, tied together where they share near duplicates"),
        ),
    ),
    Table(
        name="filter_metrics",
        grain="one target, slice of the held-out pages and metric",
        keys=("target", "slice", "metric"),
        columns=(
            Column("target", TEXT, "the target"),
            Column("slice", TEXT, "all, language=<language> or group=<domain group>"),
            Column(
                "metric",
                TEXT,
                "roc_auc; precision, recall and f1 at a calibrated probability of 1/2; precision_at_budget (share of "
                "the budget's tokens), a page counting by how sure its label is, and each of these _unweighted; brier "
                "and calibration_error, and calibration_error_before calibration; positive_share",
            ),
            Column("value", REAL, "its value over pages that their classifier had not seen", nullable=True),
            Column("ci_low", REAL, "lower end of the 90 % bootstrap interval over groups of sites", nullable=True),
            Column("ci_high", REAL, "upper end of it", nullable=True),
            Column("pages", INT, "pages of the slice"),
        ),
    ),
    Table(
        name="filter_ngrams",
        grain="one target and deciding word or word pair",
        keys=("target", "ngram"),
        columns=(
            Column("target", TEXT, "the target"),
            Column("ngram", TEXT, "one or two words; </s> is the end of a page"),
            Column("influence", REAL, "by how much it moves the mean logit of sampled pages toward inclusion"),
        ),
    ),
    Table(
        name="page_scores",
        grain="one page of the source that is long enough and that policy allows",
        keys=("shard", "position"),
        partition="shard",
        published=False,
        columns=(
            Column("shard", TEXT, "run of consecutive pages of one part of the source"),
            Column("position", INT, "place in the shard, from 0"),
            Column("page_id", TEXT, "identity of the page within the study"),
            Column("domain", TEXT, "the domain it belongs to"),
            Column("domain_group", TEXT, "group that it states for its domain", nullable=True),
            Column("language", TEXT, "language that it states", nullable=True),
            Column("split", TEXT, "training, scoring or benchmark: what the page may be used for"),
            Column("order", INT, "seeded hash of the page id: among equal scores the smallest come first"),
            Column("digest", BINARY, "128-bit digest of the text"),
            Column(
                "sketch", INT, "smallest hash of its runs of 64 bytes, which near copies mostly share", nullable=True
            ),
            Column("tokens", INT, "reference tokens of the text"),
            Column("scores", REALS, "what each method says of its text; null where it may not be selected", True),
        ),
    ),
    Table(
        name="page_shards",
        grain="one shard of the source, in the part that was read to its end",
        keys=("part", "shard"),
        partition="part",
        published=False,
        columns=(
            Column("part", TEXT, "part of the source, as a hash of its name"),
            Column("shard", TEXT, "the shard"),
            Column("pages", INT, "rows of page_scores"),
        ),
    ),
    Table(
        name="selections",
        grain="one target and arm",
        keys=("target", "arm"),
        columns=(
            Column("target", TEXT, "the target"),
            Column("arm", TEXT, "the method: ours, or what it is compared with"),
            Column("status", TEXT, "selected, short (all that the method may take is less than the budget) or blocked"),
            Column("reason", TEXT, "the status in one sentence"),
            Column("budget", INT, "tokens to select, the same for every arm"),
            Column("tokens", INT, "tokens selected"),
            Column("pages", INT, "pages selected"),
            Column("domains", INT, "their domains"),
            Column("threshold", REAL, "score of the last page selected; null where all that may be taken was", True),
            Column("pool_pages", INT, "pages that the arm could choose from"),
            Column("pages_digest", TEXT, "hash of the selected pages' ids, tokens and texts"),
        ),
    ),
    Table(
        name="selection_shifts",
        grain="one target, arm and measure of how the selection differs from the pool",
        keys=("target", "arm", "measure"),
        columns=(
            Column("target", TEXT, "the target"),
            Column("arm", TEXT, "the method: ours, or what it is compared with"),
            Column(
                "measure",
                TEXT,
                "language or group (share of tokens that changed it, 0 to 1); length (mean tokens of a page over the "
                "pool's, in doublings); concentration (the largest domain's share of tokens, less its share of the "
                "pool); duplication (share of pages that nearly repeat another of the pool, less the pool's)",
            ),
            Column("value", REAL, "its value"),
            Column("warn", REAL, "beyond it, of length in either direction, it is worth a warning", nullable=True),
            Column("block", REAL, "beyond it the selection is not published", nullable=True),
            Column("verdict", TEXT, "within, warn or block"),
        ),
    ),
    Table(
        name="selected_pages",
        grain="one target, arm and page that it selects",
        keys=("target", "arm", "page_id"),
        partition="shard",
        columns=(
            Column("target", TEXT, "the target"),
            Column("arm", TEXT, "the method: ours, or what it is compared with"),
            Column("page_id", TEXT, "identity of the page within the study"),
            Column("domain", TEXT, "the domain it belongs to"),
            Column("score", REAL, "what the pages were ordered by: larger is better, comparable within the arm"),
            Column("tokens", INT, "reference tokens of the text"),
            Column("shard", TEXT, "run of consecutive pages of one part of the source"),
        ),
    ),
    Table(
        name="preregistration",
        grain="one plan of a pilot, as it was frozen before its arms ran",
        keys=("number",),
        columns=(
            Column("number", INT, "the pilots of a study, from 1"),
            Column("pilot", TEXT, "hash of the plan; stands beside every number measured under it"),
            Column("registered", TEXT, "when, ISO 8601 in UTC"),
            Column("hypothesis", TEXT, "what the pilot is to show"),
            Column("decision_rule", TEXT, "how it decides, in a sentence"),
            Column("plan", TEXT, "the whole plan, as JSON"),
            Column("supersedes", INT, "the pilot that this one takes the place of", nullable=True),
            Column("changes", TEXT, "what was changed against it", nullable=True),
            Column("known_arms", TEXT, "arms whose results were known when it was changed", nullable=True),
        ),
    ),
    Table(
        name="pilot_runs",
        grain="one arm, target, size, seed and metric",
        keys=("arm", "target", "size", "seed", "metric"),
        partition="arm",
        columns=(
            Column("arm", TEXT, "the way to choose pages"),
            Column("target", TEXT, "the target that they were chosen for"),
            Column("size", TEXT, "the model, by its name in the study"),
            Column("seed", INT, "of initial weights and page order, shared by all arms"),
            Column(
                "metric",
                TEXT,
                "<task>/<metric> of lm-eval; held_out/bpb (bits per byte of all scoring pages); training/ loss, "
                "params, tokens, unique_tokens, epochs or flops",
            ),
            Column("value", REAL, "its value"),
            Column(
                "stderr", REAL, "standard error over questions; not that of a difference between arms", nullable=True
            ),
            Column("samples", INT, "questions answered", nullable=True),
            Column("run", TEXT, "hash of what the weights depend on; targets that share a run have the same one"),
            Column("pilot", TEXT, "the plan that it was measured under"),
        ),
    ),
    Table(
        name="pilot_domains",
        grain="one arm, target, size, seed and domain",
        keys=("arm", "target", "size", "seed", "domain"),
        partition="arm",
        columns=(
            Column("arm", TEXT, "the way to choose pages"),
            Column("target", TEXT, "the target that they were chosen for"),
            Column("size", TEXT, "the model, by its name in the study"),
            Column("seed", INT, "of initial weights and page order"),
            Column("domain", TEXT, "the domain"),
            Column("nll", REAL, "negative log-likelihood of its scoring pages, nats"),
            Column("bytes", INT, "their UTF-8 bytes"),
            Column("bpb", REAL, "bits per byte"),
        ),
    ),
    Table(
        name="pilot_curves",
        grain="one arm, target, size, seed and point of its training",
        keys=("arm", "target", "size", "seed", "step"),
        partition="arm",
        columns=(
            Column("arm", TEXT, "the way to choose pages"),
            Column("target", TEXT, "the target that they were chosen for"),
            Column("size", TEXT, "the model, by its name in the study"),
            Column("seed", INT, "of initial weights and page order"),
            Column("step", INT, "optimizer steps taken"),
            Column("tokens", INT, "tokens trained on"),
            Column("loss", REAL, "mean loss since the point before, nats per token"),
            Column(
                "tokens_per_second",
                REAL,
                "since the point before; null where the run was interrupted later",
                nullable=True,
            ),
        ),
    ),
    Table(
        name="pilot_comparison",
        grain="one size, target, arm, measure and what it is compared with",
        keys=("size", "target", "arm", "measure", "role"),
        columns=(
            Column("size", TEXT, "the model, by its name in the study"),
            Column("target", TEXT, "the target"),
            Column("arm", TEXT, "the way to choose pages"),
            Column(
                "measure",
                TEXT,
                "<task>/<metric>; error (mean gain over the target's tasks); bpb (over those in bits per byte); "
                "held_out/bpb (all scoring pages)",
            ),
            Column("role", TEXT, "compared with uniform, or with best_baseline"),
            Column("versus", TEXT, "the arm that it is compared with", nullable=True),
            Column(
                "value", REAL, "mean over seeds, in the metric's own unit; null for a mean over tasks", nullable=True
            ),
            Column("versus_value", REAL, "the same of the arm compared with", nullable=True),
            Column("seeds", INT, "paired seeds"),
            Column(
                "gain", REAL, "mean paired gain, per cent of the other's mean error; positive is better", nullable=True
            ),
            Column("ci_low", REAL, "lower end of the t interval over seeds, for these tasks", nullable=True),
            Column("ci_high", REAL, "upper end of it", nullable=True),
            Column("p_value", REAL, "two-sided paired t-test of no gain", nullable=True),
            Column("tasks_ci_low", REAL, "lower end of the interval over seeds and tasks of the kind", nullable=True),
            Column("tasks_ci_high", REAL, "upper end of it", nullable=True),
            Column("seeds_needed", INT, "seeds that would show the gain seen, with the power asked for", nullable=True),
            Column("flops_per_point", REAL, "FLOPs of one run per per cent gained; null without a gain", nullable=True),
            Column("seconds_per_point", REAL, "the same in seconds of a run, its measurement included", nullable=True),
            Column("cost_per_point", REAL, "the same in the study's currency, where it states prices", nullable=True),
            Column("verdict", TEXT, "better, worse, no difference shown, one seed (no interval) or no runs"),
            Column("decides", BOOL, "whether the preregistered rule is about this row"),
            Column("pilot", TEXT, "the plan that it was measured under"),
        ),
    ),
    Table(
        name="pilot_ranks",
        grain="one size and arm",
        keys=("size", "arm"),
        columns=(
            Column("size", TEXT, "the model, by its name in the study"),
            Column("arm", TEXT, "the way to choose pages"),
            Column("average_rank", REAL, "rank by the error that decides, 1 is best, averaged over targets"),
            Column("targets", INT, "targets that it is the average of"),
            Column("arms", INT, "arms that are ranked; controls are not"),
        ),
    ),
    Table(
        name="pilot_trend",
        grain="one target and arm, over sizes",
        keys=("target", "arm"),
        columns=(
            Column("target", TEXT, "the target"),
            Column("arm", TEXT, "the way to choose pages"),
            Column("sizes", INT, "sizes that the trend goes over"),
            Column("slope", REAL, "change of the gain over uniform, in points, per tenfold training FLOPs"),
            Column("ci_low", REAL, "lower end of the t interval over seeds", nullable=True),
            Column("ci_high", REAL, "upper end of it", nullable=True),
        ),
    ),
    Table(
        name="pilot_harm",
        grain="one size, target, arm and domain, compared with uniform",
        keys=("size", "target", "arm", "domain"),
        columns=(
            Column("size", TEXT, "the model, by its name in the study"),
            Column("target", TEXT, "the target that pages were chosen for"),
            Column("arm", TEXT, "the way to choose pages"),
            Column("domain", TEXT, "the domain"),
            Column("bpb", REAL, "bits per byte of its scoring pages, mean over seeds"),
            Column("uniform_bpb", REAL, "the same of uniform"),
            Column("gain", REAL, "mean paired gain, per cent of uniform's; below 0 the domain is modelled worse"),
            Column("ci_low", REAL, "lower end of the t interval over seeds", nullable=True),
            Column("ci_high", REAL, "upper end of it", nullable=True),
            Column("q_value", REAL, "Benjamini-Hochberg over the domains of the arm and target", nullable=True),
        ),
    ),
    Table(
        name="artifacts",
        grain="one published file",
        keys=("artifact",),
        partition="artifact",
        published=False,
        columns=(
            Column("artifact", TEXT, "the asset that publishes it"),
            Column("file", TEXT, "its path, relative to the state folder"),
            Column("bytes", INT, "its size"),
        ),
    ),
    Table(
        name="cost_ledger",
        grain="one asset and partition, as it was last computed",
        keys=("asset", "partition"),
        columns=(
            Column("asset", TEXT, "the asset"),
            Column("partition", TEXT, "the partition; empty where the asset has none"),
            Column("run", TEXT, "the Dagster run", nullable=True),
            Column("seconds", REAL, "wall time of the step; of a pilot's arm, of training and measuring all its runs"),
            Column("device", TEXT, "cpu or cuda"),
            Column(
                "device_seconds", REAL, "processor time of the same; of a GPU the time that it was held", nullable=True
            ),
            Column("peak_bytes", INT, "most memory: of the process, or of tensors on a GPU", nullable=True),
            Column("tokens", INT, "model tokens processed", nullable=True),
            Column("flops", REAL, "floating-point operations, counted from parameters and tokens", nullable=True),
            Column("cost", REAL, "cost in the study's currency, where it states prices", nullable=True),
        ),
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _TABLES}
