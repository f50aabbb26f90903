"""Worlds whose truth is known: pools of models with planted effects of domains on a target.

Models come in families of uneven size (the largest holds a fifth of the pool). Families differ in ability and in what
they trained on, topic by topic and domain by domain; models of a family differ in ability only, as checkpoints and
sizes do. Ability lowers every loss and the error; what a family trained on lowers those losses, and through the
planted weights the error. Errors are rounded like accuracies on 500 questions (ties), pages differ in noise, and some
losses are missing.

Two laws of the losses. ``gaussian``: losses are linear in ability and data, all normal. ``mixture``: families hold
shares of the domains (log-normal, sum 1) and a loss is a power law of the tokens of its domain, so it saturates where
a domain is absent.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.special import ndtr

from ppl_assets.estimation import SampledPages


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """One draw: what a study would see, and the planted weight of each domain."""

    bpb_MD: np.ndarray
    error_M: np.ndarray
    families: list[str]
    planted_D: np.ndarray


@dataclass(frozen=True, kw_only=True)
class World:
    """`signal`: standard deviation of the planted data effect on the error, in units of that of ability.

    `own`: share of the variance of what families trained on that is a domain's own, not its topic's.
    """

    law: Literal["gaussian", "mixture"] = "gaussian"
    models: int = 90
    domains: int = 200
    topics: int = 20
    signal: float = 1.0
    own: float = 0.5
    missing: float = 0.02
    questions: int = 500
    seed: int = 0

    @cached_property
    def family_sizes(self) -> list[int]:
        """About a third as many families as models; sizes fall off from a fifth of the pool to one."""
        families = max(self.models // 3, 4)
        falling = self.models / 5 / np.arange(1, families + 1) ** 0.9
        sizes = np.maximum(1, falling.round().astype(int))
        while sizes.sum() != self.models:
            step = np.sign(self.models - sizes.sum())
            at = np.argmin(sizes) if step > 0 else np.argmax(sizes[1:]) + 1
            sizes[at] += step
        return list(sizes)

    @cached_property
    def topic_D(self) -> np.ndarray:
        """Topic of each domain."""
        return np.arange(self.domains) % self.topics

    @cached_property
    def planted_D(self) -> np.ndarray:
        """Planted weights: positive in a tenth of the topics, 0 elsewhere, whatever the strength of the signal."""
        rng = np.random.default_rng(self.seed)
        return rng.uniform(0.5, 1.5, self.domains) * (self.topic_D < self.topics / 10)

    @cached_property
    def noise_D(self) -> np.ndarray:
        """Page noise of each domain, a fourfold range: some have few pages."""
        return np.random.default_rng(self.seed + 1).uniform(0.15, 0.6, self.domains)

    def draw(self, rng: np.random.Generator, *, copies: int = 1) -> Pool:
        """A pool; `copies` times as many families for values that stand for the population."""
        family_M = np.repeat(np.arange(len(self.family_sizes) * copies), self.family_sizes * copies)
        n_models, n_families = len(family_M), len(self.family_sizes) * copies
        ability_M = np.sqrt(0.5) * rng.normal(size=n_families)[family_M] + np.sqrt(0.5) * rng.normal(size=n_models)
        kind_FD = rng.normal(size=(n_families, self.topics))[:, self.topic_D]
        own_FD = rng.normal(size=(n_families, self.domains))
        data_FD = np.sqrt(0.5) * (np.sqrt(1 - self.own) * kind_FD + np.sqrt(self.own) * own_FD)
        noise_MD = rng.normal(size=(n_models, self.domains)) * self.noise_D
        bpb_MD = self._losses(ability_M, data_FD, family_M, noise_MD)
        effect_F = -data_FD @ self.planted_D
        by_topic = np.bincount(self.topic_D, self.planted_D)
        scale = np.sqrt(0.5 * ((1 - self.own) * (by_topic**2).sum() + self.own * (self.planted_D**2).sum()))
        raw_M = -ability_M + self.signal * effect_F[family_M] / scale + 0.3 * rng.normal(size=n_models)
        bpb_MD[rng.random(bpb_MD.shape) < self.missing] = np.nan
        error_M = np.round(ndtr(raw_M / np.sqrt(1.1 + self.signal**2)) * self.questions) / self.questions
        return Pool(bpb_MD=bpb_MD, error_M=error_M, families=[f"f{f:05d}" for f in family_M], planted_D=self.planted_D)

    def _losses(
        self, ability_M: np.ndarray, data_FD: np.ndarray, family_M: np.ndarray, noise_MD: np.ndarray
    ) -> np.ndarray:
        if self.law == "gaussian":
            return 2 + 0.1 * (-ability_M[:, None] - data_FD[family_M] + noise_MD)
        share_FD = np.exp(2 * data_FD)
        share_FD /= share_FD.mean(axis=1, keepdims=True)
        tokens_MD = np.exp(ability_M)[:, None] * (0.3 + share_FD[family_M])
        return 1 + tokens_MD**-0.3 + 0.05 * noise_MD


@dataclass(frozen=True, kw_only=True)
class TwinWorld:
    """A public pool that learned two kinds of text always together, a target on each of the two, and probes.

    Models hold shares of `kinds` kinds of text, of `each` domains; a loss is a power law of the tokens of its domain as
    in ``mixture``. Errors are the noiseless losses on kinds 0 and 1 plus noise of measurement. The tenth of the domains
    that a study selects has room for one kind. Public families have two models and differ in ability and within a kind
    (`own`, of log shares); probes are one model each, alike but for their mixture and a little of either.
    """

    kinds: int = 10
    each: int = 10
    families: int = 20

    @cached_property
    def kind_D(self) -> np.ndarray:
        """Kind of each domain."""
        return np.arange(self.kinds * self.each) % self.kinds

    def public(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Losses, errors (models x 2) and families of the public pool."""
        share_FK = np.exp(rng.normal(size=(self.families, self.kinds)))
        share_FK[:, 1] = share_FK[:, 0] * np.exp(0.05 * rng.normal(size=self.families))
        share_FK /= share_FK.sum(axis=1, keepdims=True)
        family_M = np.repeat(np.arange(self.families), 2)
        bpb_MD, error_M2 = self._trained(share_FK, family_M, rng, ability=1.0, own=0.6)
        return bpb_MD, error_M2, [f"public{family}" for family in family_M]

    def probes(self, share_PK: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """The same of one model per mixture of kinds; a mixture's model is the same whatever others come after it."""
        parts = [self._trained(share_K[None], np.zeros(1, int), rng, ability=0.2, own=0.15) for share_K in share_PK]
        bpb_MD, error_M2 = (np.vstack(rows) for rows in zip(*parts, strict=True))
        return bpb_MD, error_M2, [f"probe{number}" for number in range(len(parts))]

    def _trained(
        self, share_FK: np.ndarray, family_M: np.ndarray, rng: np.random.Generator, *, ability: float, own: float
    ) -> tuple[np.ndarray, np.ndarray]:
        shared_F, alone_M = rng.normal(size=len(share_FK)), rng.normal(size=len(family_M))
        scale_M1 = np.exp(ability * np.sqrt(0.5) * (shared_F[family_M] + alone_M))[:, None]
        share_FD = share_FK[:, self.kind_D] * np.exp(own * rng.normal(size=(len(share_FK), len(self.kind_D))))
        loss_MD, kind_MK = (
            1 + (scale_M1 * (0.3 + self.kinds * share[family_M])) ** -0.3 for share in (share_FD, share_FK)
        )
        error_M2 = kind_MK[:, :2] + 0.02 * rng.normal(size=(len(family_M), 2))
        return loss_MD + 0.05 * rng.normal(size=loss_MD.shape), error_M2


@dataclass(frozen=True, kw_only=True)
class PagedWorld:
    """A world in which losses come from pages. Each page has its own share of a topic that families learned more or
    less of and that the error depends on (`common`), and its own noise for each model (`alone`), in units of losses.
    With `unequal`, `common` is what the median domain has, and differs by domain with that deviation of its log.
    """

    families: int = 20
    domains: int = 40
    pages: int = 5
    common: float = 0.5
    alone: float = 0.5
    unequal: float = 0.0

    @property
    def common_D(self) -> np.ndarray:
        """The share of a topic that pages of each domain have of their own, the same in every draw."""
        return self.common * np.exp(self.unequal * np.random.default_rng(9).normal(size=self.domains))

    def draw(
        self, rng: np.random.Generator, *, models: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray, list[str], SampledPages]:
        """Losses, errors, families and losses by page; `models` fixes the models while `rng` draws the pages."""
        of_models = rng if models is None else models
        family_M = np.repeat(np.arange(self.families), 3)
        topic_M, other_M = of_models.normal(size=(2, self.families))[:, family_M]
        ability_M = of_models.normal(size=len(family_M))
        error_M = ability_M + topic_M + 0.3 * of_models.normal(size=len(family_M))
        kind_P = np.repeat(np.linspace(0, 1, self.domains), self.pages)
        topic_P = kind_P + np.repeat(self.common_D, self.pages) * rng.normal(size=len(kind_P))
        level_MP = ability_M[:, None] + topic_M[:, None] * topic_P + other_M[:, None] * (1 - topic_P)
        bytes_P = rng.integers(500, 1500, len(kind_P))
        nats_MP = (10 + level_MP + self.alone * rng.normal(size=level_MP.shape)) * bytes_P
        domain_P = np.repeat(np.arange(self.domains), self.pages)
        pages = SampledPages(nats_MP=nats_MP, bytes_MP=np.tile(bytes_P, (len(family_M), 1)), domain_P=domain_P)
        sums = [
            values.reshape(len(family_M), self.domains, self.pages).sum(axis=2) for values in (nats_MP, pages.bytes_MP)
        ]
        return sums[0] / (np.log(2) * sums[1]), error_M, [f"f{f:03d}" for f in family_M], pages
