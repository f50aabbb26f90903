"""The study file: what a team states before it looks at any number.

Corpus, models, tasks, targets, constraints and budget, as strict frozen models: an unknown key or a wrong type is an
error, never ignored. Every field has a meaning and, where it is a quantity, a unit; the defaults run on a CPU.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from ppl_assets.names import LONGEST_SLUG, SLUG_PATTERN

Slug = Annotated[str, StringConstraints(pattern=SLUG_PATTERN, max_length=LONGEST_SLUG)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
IsoDate = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class Section(BaseModel):
    """A part of the study: no unknown keys, no silent conversions, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PythonPackages(Section):
    """Text that every Python installation holds: one domain per package and kind, one page per file."""

    kind: Literal["python_packages"] = Field(description="of the source")
    packages: tuple[Name, ...] = Field(
        min_length=1, description="import names; of a package that is not installed the domains are left out"
    )


class PageColumns(Section):
    """Where the fields of a page are."""

    text: Name = Field(
        default="text", description="column of the text; `meta.text` is the key `text` of the struct or JSON in `meta`"
    )
    id: Name | None = Field(default=None, description="column of the page id; default: file or dataset name, and row")
    domain: Name | None = Field(default=None, description="column of the domain")
    url: Name | None = Field(default=None, description="column of the URL whose registered domain is the domain")
    language: Name | None = Field(default=None, description="column of the language")
    license: Name | None = Field(default=None, description="column of the licence")
    maker: Name | None = Field(default=None, description="column of the maker")
    group: Name | None = Field(default=None, description="column of the domain's group")

    @model_validator(mode="after")
    def _one_domain_column(self) -> "PageColumns":
        if (self.domain is None) == (self.url is None):
            raise ValueError("expected exactly one of 'domain' and 'url'")
        return self


class Files(PageColumns):
    """Pages in files: one row is one page."""

    kind: Literal["parquet", "jsonl"] = Field(description="jsonl may be plain, .gz or .zst")
    paths: tuple[str, ...] = Field(min_length=1, description="files or glob patterns, relative to the study file")


class HuggingFaceDataset(PageColumns):
    """Pages of a dataset on the Hugging Face hub, streamed."""

    kind: Literal["huggingface"] = Field(description="of the source")
    dataset: Name = Field(description="repository on the hub, or a folder relative to the study file")
    revision: Name = Field(description="pinned commit or tag")
    subset: Name | None = Field(default=None, description="configuration of the dataset")
    split: Name = Field(default="train", description="part of the dataset")


class Split(Section):
    """A part of the pages, disjoint from the others by page."""

    share: float = Field(ge=0, le=1, description="share of all pages that may fall into it")
    pages_per_domain: Count = Field(description="pages sampled of each domain, at most")


class Splits(Section):
    """What pages are used for; a page falls into exactly one part, by a hash of its id and the seed."""

    training: Split = Field(
        default=Split(share=0.0, pages_per_domain=1), description="pages that models of the study are trained on"
    )
    scoring: Split = Field(default=Split(share=1.0, pages_per_domain=25), description="pages whose losses are measured")
    benchmark: Split = Field(
        default=Split(share=0.0, pages_per_domain=1), description="pages that tasks are built from"
    )

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> "Splits":
        total = self.training.share + self.scoring.share + self.benchmark.share
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares of training, scoring and benchmark sum to {total:g}, expected 1")
        return self


class ReferenceTokenizer(Section):
    """What a reference token is: the unit of chunk lengths, availability and the budget."""

    file: str | None = Field(default=None, description="tokenizer.json, relative to the study file")
    bytes_per_token: Count = Field(default=4, description="without a file: this many UTF-8 bytes count as one token")


class ExpectedText(Section):
    """What a source that is not at hand is expected to hold: for `plan` alone, until the catalog has counted it."""

    domains: Count = Field(description="domains with enough pages")
    tokens_per_page: Count = Field(description="reference tokens of a page, in the mean")


class Corpus(Section):
    """Where text comes from and how it is sampled and cut."""

    source: Annotated[
        PythonPackages | Files | HuggingFaceDataset,
        Field(discriminator="kind", description="packages, files or a dataset"),
    ]
    splits: Splits = Field(default=Splits(), description="which pages are used for what")
    chunk_tokens: Count = Field(default=512, description="most reference tokens of a chunk")
    reference_tokenizer: ReferenceTokenizer = Field(default=ReferenceTokenizer(), description="the unit of tokens")
    min_page_bytes: Count = Field(default=200, description="shorter pages are left out, and counted")
    max_page_bytes: Count = Field(default=1_000_000, description="longer pages are left out, and counted")
    min_pages: Count = Field(default=1, description="a domain with fewer scoring pages is left out, and counted")
    near_duplicate_similarity: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Jaccard similarity of word 5-grams from which two pages are near duplicates",
    )
    expected: ExpectedText | None = Field(default=None, description="size of a source that is not at hand, for `plan`")


class ZooTokenizer(Section):
    """A byte-level BPE tokenizer, trained on the training pages."""

    vocabulary: int = Field(ge=300, description="entries, special tokens and the 256 bytes included")


class Architecture(Section):
    """A small causal language model, from its configuration."""

    kind: Literal["llama", "gpt_neox"] = Field(default="llama", description="family of architectures")
    hidden_size: Count = Field(default=128, description="width")
    layers: Count = Field(default=4, description="transformer blocks")
    heads: Count = Field(default=4, description="attention heads per block")
    intermediate_size: Count = Field(default=352, description="width of the feed-forward part")

    @model_validator(mode="after")
    def _heads_divide(self) -> "Architecture":
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"hidden_size {self.hidden_size} is not an even multiple of heads {self.heads}")
        return self


class ZooRun(Section):
    """One training run; each of its checkpoints is a model."""

    run: Slug = Field(description="name of the run; a checkpoint's slug is RUN-stepN")
    family: Slug = Field(description="models of one maker and recipe")
    tokenizer: Name = Field(description="a name under zoo.tokenizers")
    architecture: Name = Field(description="a name under zoo.architectures")
    mixture: dict[str, float] = Field(
        min_length=1, description="weight by domain pattern (such as '*/code'); shared by pages in proportion to bytes"
    )
    seed: int = Field(default=0, description="of weights and order of text")

    @field_validator("mixture")
    @classmethod
    def _positive(cls, mixture: dict[str, float]) -> dict[str, float]:
        wrong = {pattern: weight for pattern, weight in mixture.items() if not weight > 0}
        if wrong:
            raise ValueError(f"weights must be positive, found {wrong}")
        return mixture


class Zoo(Section):
    """A pool of models that the study trains itself."""

    tokenizers: dict[Slug, ZooTokenizer] = Field(min_length=1, description="by name")
    architectures: dict[Slug, Architecture] = Field(min_length=1, description="by name")
    runs: tuple[ZooRun, ...] = Field(min_length=1, description="the training runs")
    checkpoints: tuple[Count, ...] = Field(
        default=(40, 100, 200), min_length=1, description="steps; the last one ends a run"
    )
    batch_sequences: Count = Field(default=32, description="sequences per step")
    sequence_tokens: Count = Field(default=128, description="tokens per sequence, also the models' context in training")
    context_tokens: Count = Field(default=1024, description="longest input that the models accept")
    learning_rate: float = Field(default=3e-3, gt=0, description="peak; 10 % warm-up, then cosine to a tenth")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="float32",
        description="dtype of the forward pass in training; auto: bfloat16 where the processor has instructions for it",
    )

    @model_validator(mode="after")
    def _names_exist(self) -> "Zoo":
        runs = [run.run for run in self.runs]
        repeated = sorted({run for run in runs if runs.count(run) > 1})
        if repeated:
            raise ValueError(f"duplicate run {repeated[0]!r}")
        for run in self.runs:
            for name, choices in ((run.tokenizer, self.tokenizers), (run.architecture, self.architectures)):
                if name not in choices:
                    raise ValueError(f"run {run.run!r} names {name!r}, expected one of {sorted(choices)}")
        if list(self.checkpoints) != sorted(set(self.checkpoints)):
            raise ValueError(f"checkpoints must increase, found {list(self.checkpoints)}")
        return self


class Model(Section):
    """One causal language model at one revision."""

    slug: Slug = Field(description="key of the model, and its partition")
    family: Name = Field(description="models of one maker and recipe: the unit of all inference")
    run: Name | None = Field(
        default=None, description="training run whose checkpoints belong together; default: the slug"
    )
    source: Name = Field(description="folder relative to the study file, or Hugging Face repository, or 'imported'")
    revision: Name | None = Field(default=None, description="pinned commit, branch or tag of a repository")
    kind: Literal["public", "probe"] = Field(default="public", description="probe: trained on a designed mixture")
    params: Count | None = Field(default=None, description="parameters; default: counted where the model is at hand")
    license: Name | None = Field(default=None, description="licence of the weights")
    maker: Name | None = Field(default=None, description="organisation that trained it")
    trust_remote_code: bool = Field(default=False, description="run code that the repository carries")


class CheckpointFolder(Section):
    """A folder that a training run writes its checkpoints into: each subfolder with a config.json is a model."""

    path: Name = Field(description="relative to the study file")
    run: Slug = Field(description="the training run; a checkpoint's slug is the run's with the subfolder's name")
    family: Name = Field(description="models of one maker and recipe")
    kind: Literal["public", "probe"] = Field(default="public", description="probe: trained on a designed mixture")
    license: Name | None = Field(default=None, description="licence of the weights")
    maker: Name | None = Field(default=None, description="organisation that trained them")


class BuiltTask(Section):
    """A task made from held-out pages: which continuation follows a text?"""

    task: Slug = Field(description="its name")
    pages: Name = Field(description="domain pattern, such as '*/code'")
    form: Literal["choice", "continuation"] = Field(
        description="choice: accuracy over four continuations; continuation: bits per byte of the right one"
    )
    items: Count = Field(default=150, description="questions")
    context_bytes: Count = Field(default=200, description="UTF-8 bytes of the text that is given")
    continuation_bytes: Count = Field(default=60, description="UTF-8 bytes of each continuation")


MetricKind = Literal["accuracy", "error", "perplexity", "bpb"]


class TargetTask(Section):
    """One task and metric of a target."""

    task: Name = Field(description="its name in lm-eval, under benchmarks.build or in imported scores")
    metric: Name = Field(description="as the task reports it")
    kind: MetricKind = Field(
        description="accuracy (0 to 1, higher is better), error (0 to 1), perplexity (from 1, enters as its log) "
        "or bpb (bits per byte)"
    )


class Target(Section):
    """A named group of tasks to optimise for."""

    tasks: tuple[TargetTask, ...] = Field(
        min_length=1, description="one task or several; of several the standardised errors are averaged"
    )
    allow_reversed: bool = Field(default=False, description="accept errors that fall when losses rise across models")
    contrast_to: tuple[Slug, ...] = Field(
        default=(), description="targets whose errors are taken out of this one's: what is left is particular to it"
    )


class Benchmarks(Section):
    """Which lm-eval tasks are run."""

    build: tuple[BuiltTask, ...] = Field(default=(), description="tasks made from held-out pages")
    task_folders: tuple[str, ...] = Field(
        default=(), description="folders of lm-eval YAML tasks, relative to the study file"
    )
    limit: Count | None = Field(default=None, description="questions per task, at most")
    batch_size: Count = Field(default=16, description="texts per forward pass")

    @model_validator(mode="after")
    def _unique(self) -> "Benchmarks":
        names = [built.task for built in self.build]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"duplicate task {repeated[0]!r}")
        return self


class Imports(Section):
    """Scores and losses computed elsewhere: long CSV or Parquet, or the wide CSVs of the reference implementation."""

    bpb: tuple[str, ...] = Field(default=(), description="files, relative to the study file")
    scores: tuple[str, ...] = Field(default=(), description="files, relative to the study file")
    metrics: dict[str, Name] = Field(
        default={}, description="metric of each task of a wide score file; default 'value'"
    )


class Scoring(Section):
    """How losses are computed."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="auto: the checkpoint's, float16 and (on a processor without instructions for it) bfloat16 widened "
        "to float32",
    )
    too_long: Literal["windows", "skip"] = Field(default="windows", description="chunks longer than a model's context")
    max_context: int | None = Field(
        default=None,
        ge=2,
        description="most tokens of context for every model, such as the least of the pool; default: each model's own",
    )
    token_budget: Count | None = Field(default=None, description="padded tokens per batch; default: chosen by device")


class Estimation(Section):
    """How evidence is weighed."""

    estimator: Literal["gls", "spearmanr", "gumbel", "kendall", "sign", "sign_cdf", "sign_sign", "product"] = Field(
        default="gls", description="whose estimates decide; gls, spearmanr and gumbel come with intervals"
    )
    minimum_models: int = Field(
        default=10,
        ge=3,
        description="fewer models with losses and errors are a failure, and a domain that fewer of them have a loss on "
        "has no estimate",
    )
    replicates: Count = Field(default=1000, description="bootstrap replicates over families")
    level: float = Field(default=0.90, gt=0, lt=1, description="coverage of intervals")
    gate: bool = Field(default=True, description="off: select whatever the evidence says, as the paper does")


class GroupBound(Section):
    """Least and most of the mixture for all domains of one language, group, licence or maker."""

    attribute: Literal["language", "group", "license", "maker"] = Field(
        description="which property of a domain makes the group"
    )
    label: Name = Field(description="the language, group, licence or maker, as the table domains has it")
    floor: float = Field(default=0.0, ge=0, le=1, description="least share of the mixture")
    ceiling: float = Field(default=1.0, ge=0, le=1, description="largest share of the mixture")

    @model_validator(mode="after")
    def _floor_below_ceiling(self) -> "GroupBound":
        if self.floor > self.ceiling:
            raise ValueError(f"floor {self.floor:g} is above ceiling {self.ceiling:g}")
        return self


Combination = Literal["mean", "max_min", "pareto"]


class Mixture(Section):
    """How much text is chosen, and under which bounds."""

    budget_tokens: Count | None = Field(default=None, description="reference tokens to train on")
    keep: Share | None = Field(default=None, description="instead of a budget: share of the pool's tokens")
    max_epochs: float = Field(default=1.0, gt=0, le=4, description="how often a domain may be repeated")
    max_epochs_by_domain: dict[str, float] = Field(default={}, description="overrides, by domain pattern")
    projection: Literal["linear", "l2", "kl"] = Field(
        default="linear", description="linear: fill the best domains; l2: nearest to the estimates; kl: tilt the pool"
    )
    lower_confidence: float = Field(default=0.0, ge=0, description="standard errors subtracted from every estimate")
    temperature: float = Field(default=0.1, gt=0, description="for kl: small is all-or-nothing, large is the pool")
    safety_margin: float = Field(default=0.0, ge=0, le=1, description="share kept on the pool's own distribution")
    bounds: tuple[GroupBound, ...] = Field(default=(), description="floors and ceilings for groups of domains")
    combine: tuple[Combination, ...] = Field(
        default=(),
        description="one mixture for all targets besides one for each. mean: best by the mean estimate; max_min: best "
        "for the target that it serves worst; pareto: the front between targets, as mixtures pareto-1, pareto-2, ...",
    )
    target_weights: dict[Slug, float] = Field(
        default={},
        description="how much each target counts in mean and max_min; targets not named do not; default: all alike",
    )
    front_points: Count = Field(default=20, description="preferences that pareto tries; it has no more points")
    use: Slug | None = Field(
        default=None,
        description="the mixture to train on: a target, mean or max_min; default: the first one combined, or the only "
        "target's",
    )
    churn: Share = Field(
        default=1.0, description="most of the mixture that may change at once, unless limits or the gate force more"
    )
    hysteresis: float = Field(
        default=0.0, ge=0, description="standard errors by which a domain must beat what it takes weight from"
    )

    @model_validator(mode="after")
    def _one_budget(self) -> "Mixture":
        if (self.budget_tokens is None) == (self.keep is None):
            raise ValueError("expected exactly one of 'budget_tokens' and 'keep'")
        return self

    @model_validator(mode="after")
    def _linear_where_needed(self) -> "Mixture":
        needing = {
            "combine: max_min": "max_min" in self.combine,
            "churn": self.churn < 1,
            "hysteresis": self.hysteresis,
        }
        if self.projection != "linear" and any(needing.values()):
            field = next(name for name, needed in needing.items() if needed)
            raise ValueError(f"{field} needs projection 'linear', found {self.projection!r}")
        return self

    @model_validator(mode="after")
    def _weights_mean_something(self) -> "Mixture":
        repeated = sorted({how for how in self.combine if self.combine.count(how) > 1})
        if repeated:
            raise ValueError(f"combine names {repeated[0]!r} twice")
        negative = {target: weight for target, weight in self.target_weights.items() if not 0 <= weight < float("inf")}
        if negative:
            raise ValueError(f"target_weights must be 0 or more, found {negative}")
        if self.target_weights and not any(self.target_weights.values()):
            raise ValueError("target_weights are all 0, expected at least one above")
        return self

    @property
    def top_share(self) -> float:
        """Share of domains that counts as selected where one is needed before caps are known."""
        return self.keep or 0.1


class Bound(Section):
    """Where a measure of a selection's shift from the pool is worth a warning, and where it stops the run."""

    warn: float | None = Field(default=None, ge=0, description="beyond it the check warns")
    block: float | None = Field(default=None, ge=0, description="beyond it the selection is not published")


class ShiftBounds(Section):
    """How far a selection may shift from the pool."""

    language: Bound = Field(default=Bound(warn=0.3), description="share of tokens that changed language (0 to 1)")
    group: Bound = Field(default=Bound(), description="share of tokens that changed the domain's group (0 to 1)")
    length: Bound = Field(default=Bound(warn=1.0), description="mean page length over the pool's, in doublings")
    concentration: Bound = Field(
        default=Bound(warn=0.5), description="the largest domain's share of tokens, less its share of the pool"
    )
    duplication: Bound = Field(
        default=Bound(warn=0.05),
        description="share of pages that nearly repeat another of the pool, less the pool's",
    )


Arm = Literal[
    "ours",
    "ours_domains",
    "uniform",
    "mean_loss",
    "perplexity_pruning",
    "dsir",
    "quality_classifier",
    "language",
    "rules",
]


# What a reader of page filters takes: words of an n-gram, and bytes of a model, sixty times those of a default filter.
LONGEST_NGRAM, LARGEST_FILTER_BYTES = 8, 1 << 30


class PageFilter(Section):
    """From domains to pages: the classifier that carries the mixture's choice to any page, and what it selects."""

    labels: Literal["better", "mixture", "stability"] = Field(
        default="better",
        description="what a domain's pages are labelled by: better (probability that its estimate is above the "
        "pool's), mixture (share of it that the mixture takes) or stability (selection_probability)",
    )
    soft: bool = Field(
        default=True, description="sample labels by their probability; off: round them, and leave none in doubt"
    )
    pages_per_domain: Count | None = Field(default=None, description="pages trained on per domain, at most")
    folds: int = Field(default=4, ge=2, description="parts of the pages, by site, that are held out in turn")
    near_duplicate_similarity: float = Field(
        default=0.6, gt=0, le=1, description="pages at least as alike (word 5-grams) are never held out from each other"
    )
    dimension: Count = Field(default=16, description="numbers per word vector")
    word_ngrams: Count = Field(default=2, le=LONGEST_NGRAM, description="longest run of words that is a feature")
    buckets: Count = Field(
        default=200_000, description="hashed word pairs; the model takes 4 x dimension bytes of each"
    )
    epochs: Count = Field(default=5, description="passes over the training pages")
    min_steps: Count = Field(default=6000, description="of few pages there are more epochs, to as many steps as this")
    learning_rate: float = Field(default=0.2, gt=0, description="at the start; falls linearly")
    min_count: Count = Field(default=2, description="rarer words are left out of the vocabulary")
    lowercase: bool = Field(default=False, description="fold case before training and scoring")
    unicode_form: Literal["NFC", "NFKC", "none"] = Field(default="NFC", description="normal form of the text")
    arms: tuple[Arm, ...] = Field(default=("ours", "uniform"), min_length=1, description="methods that select pages")
    with_text: bool = Field(default=False, description="write the selected pages' text as Parquet shards too")
    reference_model: Slug | None = Field(
        default=None, description="for perplexity_pruning: whose losses; default: the first model by slug"
    )
    target_texts: dict[Slug, tuple[str, ...]] = Field(
        default={},
        description="for dsir and quality_classifier: JSONL files (key text) or plain text files of each target, "
        "relative to the study file; default: the benchmark pages of the tasks that the study builds for it",
    )
    languages: dict[Slug, tuple[Name, ...]] = Field(default={}, description="for language: languages kept per target")
    bounds: ShiftBounds = Field(default=ShiftBounds(), description="how far the selection may shift from the pool")

    @model_validator(mode="after")
    def _model_of_a_size_that_is_read(self) -> "PageFilter":
        n_bytes = 4 * self.dimension * self.buckets
        if n_bytes > LARGEST_FILTER_BYTES:
            raise ValueError(
                f"dimension {self.dimension} x buckets {self.buckets:,} take {n_bytes:,} bytes, "
                f"expected at most {LARGEST_FILTER_BYTES:,}"
            )
        return self

    @field_validator("arms")
    @classmethod
    def _arms_once(cls, arms: tuple[str, ...]) -> tuple[str, ...]:
        repeated = sorted({arm for arm in arms if arms.count(arm) > 1})
        if repeated:
            raise ValueError(f"duplicate arm {repeated[0]!r}")
        return arms


class PilotArchitecture(Architecture):
    """A model that a pilot trains from random weights."""

    tie_embeddings: bool = Field(default=True, description="one matrix for input and output")


# Settings that a preset stands for; what the study states itself wins.
_PILOT_PRESETS: dict[str, dict[str, object]] = {
    # Learns in seconds of one CPU core.
    "tiny": {
        "architecture": {"hidden_size": 64, "layers": 2, "heads": 2, "intermediate_size": 176},
        "context_tokens": 256,
        "batch_sequences": 4,
        "budget_tokens": 50_000,
        "learning_rate": 1e-2,
    },
    # Pythia-160M's shape and the training of Thrush et al. (arXiv 2409.05816, appendix), whose batch is 4 x 128.
    "160m": {
        "architecture": {
            "kind": "gpt_neox",
            "hidden_size": 768,
            "layers": 12,
            "heads": 12,
            "intermediate_size": 3072,
            "tie_embeddings": False,
        },
        "context_tokens": 1024,
        "batch_sequences": 512,
        "device_sequences": 32,
        "budget_tokens": 3_200_000_000,
        "learning_rate": 5e-3,
        "dtype": "bfloat16",
    },
}


class PilotSize(Section):
    """One size of model and training: AdamW (0.9, 0.95), gradients clipped to norm 1, 10 % warm-up, then a cosine."""

    preset: Literal["tiny", "160m"] = Field(
        default="tiny", description="settings to start from: tiny for a CPU, 160m as in the paper"
    )
    architecture: PilotArchitecture = Field(description="default: the preset's; one that is stated replaces it whole")
    start: Name | None = Field(
        default=None,
        description="continue from this model folder, relative to the study file, with its tokenizer; default: train "
        "from scratch",
    )
    context_tokens: Count = Field(description="tokens per sequence, and the longest input; default: the preset's")
    batch_sequences: Count = Field(description="sequences per step, over all devices; default: the preset's")
    device_sequences: Count | None = Field(
        default=None, description="sequences that a device takes at once; the rest of a step's follow; default: all"
    )
    budget_tokens: Count = Field(
        description="tokens of the model to train on, the same for every arm; default: the preset's"
    )
    learning_rate: float = Field(gt=0, description="peak; default: the preset's")
    weight_decay: float = Field(default=0.1, ge=0, description="of matrices; norms and biases have none")
    dtype: Literal["float32", "bfloat16"] = Field(default="float32", description="of the forward pass")
    checkpoint_steps: Count = Field(default=500, description="steps between checkpoints to resume from")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, stated: object) -> object:
        if not isinstance(stated, dict):
            return stated
        return {**_PILOT_PRESETS.get(str(stated.get("preset", "tiny")), {}), **stated}

    @model_validator(mode="after")
    def _budget_makes_steps(self) -> "PilotSize":
        if self.device_sequences and self.batch_sequences % self.device_sequences:
            raise ValueError(
                f"batch_sequences {self.batch_sequences} is no multiple of device_sequences {self.device_sequences}"
            )
        if self.steps < 1:
            raise ValueError(
                f"budget_tokens {self.budget_tokens} is below one step of {self.batch_sequences} x "
                f"{self.context_tokens} tokens"
            )
        return self

    @property
    def steps(self) -> int:
        """Optimizer steps: whole batches of the budget."""
        return self.budget_tokens // (self.batch_sequences * self.context_tokens)

    @property
    def trained_tokens(self) -> int:
        """Tokens that a run trains on: the budget, down to whole steps."""
        return self.steps * self.batch_sequences * self.context_tokens


Control = Literal["positive", "negative"]


class Pilot(Section):
    """Small pretraining runs that test the choice; they run when asked for (`--select pilot_comparison`)."""

    hypothesis: Name = Field(
        default="Training on our choice lowers the target's error below that of training on the pool as it is.",
        description="what the pilot is to show, frozen before any arm runs",
    )
    arms: tuple[Arm, ...] = Field(
        default=(), description="ways to choose that are compared; default: all of filter.arms"
    )
    controls: tuple[Control, ...] = Field(
        default=(),
        description="positive: pages of the target's own kind, which must win; negative: our domains by estimates that "
        "are shuffled anew for each seed, which must not",
    )
    targets: tuple[Slug, ...] = Field(default=(), description="default: all of the study's")
    seeds: tuple[int, ...] = Field(
        default=(0, 1, 2), min_length=1, description="of initial weights and page order, the same for every arm"
    )
    sizes: dict[Slug, PilotSize] = Field(min_length=1, description="models to train, by name; several show a trend")
    tokenizer: Name | None = Field(
        default=None,
        description="model folder whose tokenizer is used, relative to the study file; default: one is trained on "
        "pages of the pool that are drawn for it alone",
    )
    vocabulary: int = Field(default=1024, ge=300, description="entries of the tokenizer that is trained")
    max_epochs: float = Field(default=4.0, gt=0, description="how often an arm's pages may be repeated to the budget")
    decide_on: Literal["error", "bpb"] = Field(
        default="error", description="error: mean over all of a target's tasks; bpb: over those of kind bpb alone"
    )
    minimum_gain: float = Field(
        default=0.0, ge=0, description="per cent of uniform's error that the interval must lie above"
    )
    level: float = Field(default=0.90, gt=0, lt=1, description="coverage of intervals")
    power: float = Field(default=0.80, gt=0, lt=1, description="for the seeds needed to show the difference seen")

    @model_validator(mode="after")
    def _seeds_once(self) -> "Pilot":
        for name, values in (("seed", self.seeds), ("arm", self.arms), ("target", self.targets)):
            repeated = [value for value in values if values.count(value) > 1]
            if repeated:
                raise ValueError(f"duplicate {name} {repeated[0]!r}")
        return self


class PolicyRule(Section):
    """An allow or deny rule; the last rule that matches a domain decides."""

    action: Literal["allow", "deny"] = Field(description="what the rule says of what it matches")
    domains: tuple[str, ...] = Field(default=("*",), description="domain patterns")
    licenses: tuple[str, ...] = Field(default=(), description="licence patterns; empty: any")
    languages: tuple[str, ...] = Field(default=(), description="languages; empty: any")
    makers: tuple[str, ...] = Field(default=(), description="maker patterns; empty: any")
    reason: Name = Field(description="why, for the record")
    owner: Name = Field(description="on whose word")
    date: IsoDate = Field(description="of the decision, such as 2026-01-31")


class ModelPolicy(Section):
    """Which models may score text, by the licence of their weights; models that the study trains always may."""

    licenses: tuple[Name, ...] = Field(
        min_length=1, description="licence patterns; a model whose licence matches none, or is not stated, is denied"
    )
    reason: Name = Field(description="why, for the record")
    owner: Name = Field(description="on whose word")
    date: IsoDate = Field(description="of the decision, such as 2026-01-31")


class Prices(Section):
    """What an hour costs, in one currency."""

    cpu_hour: float = Field(default=0.0, ge=0, description="price of an hour of one worker on a processor")
    gpu_hour: float = Field(default=0.0, ge=0, description="price of an hour of one GPU")
    currency: Name = Field(default="USD", description="of the prices")

    def per_hour(self, device: str) -> float:
        """Price of an hour of `device`, cpu or cuda; 0 where the study states none."""
        return self.gpu_hour if device == "cuda" else self.cpu_hour


class Alternatives(Section):
    """What a choice by training would take, to compare costs with; none of it is run."""

    proxy_models: Count = Field(default=512, description="small models on random mixtures, as RegMix trains")
    proxy_params: Count = Field(default=1_000_000, description="parameters of each")
    proxy_tokens: Count = Field(default=1_000_000_000, description="tokens that each is trained on")
    pilot_runs: Count = Field(default=5, description="pilot runs per target: arms times seeds")
    pilot_params: Count = Field(default=160_000_000, description="parameters of a pilot's model")
    pilot_tokens: Count = Field(default=3_200_000_000, description="tokens of a pilot run")


class Study(Section):
    """One question, stated in full."""

    name: Slug = Field(description="a state folder holds the results of one name")
    seed: int = Field(default=0, description="of every random choice")
    corpus: Corpus | None = Field(default=None, description="absent where losses and scores are imported")
    zoo: Zoo | None = Field(default=None, description="models that the study trains")
    models: tuple[Model, ...] = Field(default=(), description="models that exist")
    checkpoints: tuple[CheckpointFolder, ...] = Field(
        default=(), description="folders of checkpoints; what appears there joins the models"
    )
    benchmarks: Benchmarks = Field(default=Benchmarks(), description="tasks, built and public")
    targets: dict[Slug, Target] = Field(min_length=1, description="what to be good at, by name")
    imports: Imports = Field(default=Imports(), description="losses and scores computed elsewhere")
    scoring: Scoring = Field(default=Scoring(), description="how losses are computed")
    estimation: Estimation = Field(default=Estimation(), description="how evidence is weighed")
    mixture: Mixture = Field(description="how much to choose")
    filter: PageFilter | None = Field(default=None, description="from domains to pages; absent: domains are the answer")
    pilot: Pilot | None = Field(default=None, description="small pretraining runs that test the choice")
    policy: tuple[PolicyRule, ...] = Field(default=(), description="which domains may be used")
    model_policy: ModelPolicy | None = Field(default=None, description="which models may score; default: all")
    prices: Prices = Field(default=Prices(), description="for the cost ledger")
    alternatives: Alternatives = Field(
        default=Alternatives(), description="what the cost of the choice is compared with"
    )
    folder: Path = Field(
        default=Path(), exclude=True, description="set on loading: what relative paths are relative to"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        slugs = [model.slug for model in self.models] + self.zoo_slugs()
        repeated = sorted({slug for slug in slugs if slugs.count(slug) > 1})
        if repeated:
            raise ValueError(f"duplicate slug {repeated[0]!r}")
        if self.corpus is None and (self.zoo or self.benchmarks.build):
            raise ValueError("a model zoo and built tasks need a corpus")
        if self.zoo and self.corpus and self.corpus.splits.training.share == 0:
            raise ValueError("a model zoo needs corpus.splits.training.share above 0")
        if self.filter and self.corpus is None:
            raise ValueError("a page filter needs a corpus")
        if self.filter:
            named = {*self.filter.target_texts, *self.filter.languages}
            unknown = sorted(named - set(self.targets))
            if unknown:
                raise ValueError(f"filter names the target {unknown[0]!r}, expected one of {sorted(self.targets)}")
        if self.benchmarks.build and self.corpus and self.corpus.splits.benchmark.share == 0:
            raise ValueError("built tasks need corpus.splits.benchmark.share above 0")
        for name, target in self.targets.items():
            strange = sorted(set(target.contrast_to) - (set(self.targets) - {name}))
            if strange:
                raise ValueError(f"target {name!r} is a contrast to {strange[0]!r}, expected another target's name")
        return self

    @model_validator(mode="after")
    def _mixtures_have_names(self) -> "Study":
        mixture = self.mixture
        if mixture.combine and len(self.targets) < 2:
            raise ValueError("mixture.combine needs two targets or more, found one")
        for target in mixture.target_weights:
            if target not in self.targets:
                raise ValueError(f"mixture.target_weights names {target!r}, expected one of {sorted(self.targets)}")
        front = "pareto-" if "pareto" in mixture.combine else None
        taken = [name for name in self.targets if name in mixture.combine or (front and name.startswith(front))]
        if taken:
            raise ValueError(f"target {taken[0]!r} has a name that mixture.combine gives: expected another name")
        usable = [*self.targets, *self.combined]
        if mixture.use is not None and mixture.use not in usable:
            raise ValueError(f"mixture.use is {mixture.use!r}, expected one of {usable}")
        return self

    @model_validator(mode="after")
    def _pilot_can_run(self) -> "Study":
        if self.pilot is None:
            return self
        if self.filter is None or self.corpus is None:
            raise ValueError("a pilot needs a filter, which selects the pages of its arms")
        if self.corpus.splits.training.share == 0:
            raise ValueError("a pilot needs corpus.splits.training.share above 0: it is measured on scoring pages")
        for field, named, choices in (
            ("arms", self.pilot.arms, self.filter.arms),
            ("targets", self.pilot.targets, tuple(self.targets)),
        ):
            unknown = [name for name in named if name not in choices]
            if unknown:
                raise ValueError(f"pilot.{field} names {unknown[0]!r}, expected one of {sorted(choices)}")
        if "uniform" not in (self.pilot.arms or self.filter.arms):
            raise ValueError("pilot.arms lacks 'uniform', with which the other arms are compared")
        if self.pilot.decide_on == "bpb":
            without = [
                name for name in self.pilot_targets if not any(t.kind == "bpb" for t in self.targets[name].tasks)
            ]
            if without:
                raise ValueError(f"pilot.decide_on is 'bpb', but target {without[0]!r} has no task of this kind")
        return self

    @property
    def pilot_arms(self) -> list[str]:
        """Arms of the pilot, its controls included; none without a pilot."""
        if self.pilot is None or self.filter is None:
            return []
        return [*(self.pilot.arms or self.filter.arms), *self.pilot.controls]

    @property
    def pilot_targets(self) -> list[str]:
        """Targets of the pilot."""
        return [*(self.pilot.targets or self.targets)] if self.pilot else []

    @property
    def combined(self) -> list[Combination]:
        """The combined mixtures that one can train on; the points of a front are there to choose from."""
        return [how for how in self.mixture.combine if how != "pareto"]

    @property
    def used_mixture(self) -> str | None:
        """The mixture to train on; None where several targets stand side by side and nobody has said which."""
        alone = [*self.targets] if len(self.targets) == 1 else []
        return self.mixture.use or next(iter([*self.combined, *alone]), None)

    def zoo_slugs(self) -> list[str]:
        """Slugs of the models that the study trains: one per run and checkpoint."""
        if self.zoo is None:
            return []
        return [checkpoint_slug(run.run, step) for run in self.zoo.runs for step in self.zoo.checkpoints]

    def is_checkpoint(self, model: Model) -> bool:
        """Whether a model was found in a folder of checkpoints."""
        return Path(model.source).parent in {self.path(folder.path) for folder in self.checkpoints}

    def path(self, relative: str) -> Path:
        """A path of the study file, resolved against the file's folder."""
        return self.folder / Path(relative).expanduser()


def checkpoint_slug(run: str, step: int) -> str:
    """Slug of the model that a run's checkpoint is."""
    return f"{run}-step{step}"
