"""Which small models to train next so that targets can be told apart: probe mixtures chosen by an optimal design.

Public models are observational: where they all learned two kinds of text together, no statistic separates the kinds.
Probes are trained on deliberately different mixtures. Criterion: D-optimality, ``log det(I0 + sum u u')``, over
contrasts between groups of domains, where u is a probe's centred log shares and I0 what the models at hand already
tell (scatter of their families' losses by group). A direction in which no family varies gets the next probe. Chosen
greedily, which is within (1 - 1/e) of the best set (Nemhauser, Wolsey, Fisher, 1978). It assumes that a loss falls
with the log of its group's share.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.estimation.domain_scores import centred_families, centred_scores, family_means
from ppl_assets.estimation.inputs import family_index, loss_matrix

CANDIDATES = 4000  # random mixtures to choose from; more changed the designs of 20 groups little
FLOOR = 0.02  # a group's least share, as a part of an even one's: a probe must have seen everything a little


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeDesign:
    """`shares` of the groups in each probe's mixture (probes x groups, rows sum to 1), best first."""

    groups: tuple[str, ...]
    shares: np.ndarray

    def snippets(
        self, patterns: Mapping[str, Mapping[str, float]], *, tokenizer: str, architecture: str, prefix: str = "probe"
    ) -> dict[str, str]:
        """The probes by name, each as an entry for a study's ``zoo.runs``; `patterns` divides each group's share among
        domain patterns."""
        found = {}
        for number, share in enumerate(self.shares, start=1):
            run = f"{prefix}-{number}"
            parts = ", ".join(
                f"{json.dumps(pattern)}: {float(f'{part * within:.3g}')}"
                for group, part in zip(self.groups, share, strict=True)
                for pattern, within in patterns[group].items()
            )
            found[run] = (
                f"- run: {run}\n  family: {run}\n  tokenizer: {tokenizer}\n  architecture: {architecture}\n"
                f"  mixture: {{{parts}}}\n"
            )
        return found


def propose_probes(
    bpb_MD: np.ndarray, *, families: Sequence[str], groups: Sequence[str], probes: int, seed: int = 0
) -> ProbeDesign:
    """The mixtures over `groups` (a label per domain) of `probes` models that would add most to the pool at hand.

    Raises:
        InputError: bad losses or families, fewer than 2 groups, a label count that does not fit, or no probe asked for.
    """
    x_MD = loss_matrix(bpb_MD)
    family_M = family_index(families, len(x_MD))
    if len(groups) != x_MD.shape[1]:
        raise InputError(f"groups: found {len(groups)}, expected {x_MD.shape[1]}, one per domain")
    names = sorted(set(groups))
    if len(names) < 2:
        raise InputError(f"groups: found only {names[0]!r}, expected at least 2 to tell apart")
    if probes < 1:
        raise InputError(f"probes: found {probes}, expected at least 1")
    family_FD = centred_families(family_means(centred_scores(x_MD, "normal"), ~np.isnan(x_MD), family_M))
    label_D = np.array(groups)
    loss_FK = np.stack([family_FD[:, label_D == name].mean(axis=1) for name in names], axis=1)
    share_CK = sharp_mixtures(len(names), CANDIDATES, np.random.default_rng(seed))
    return ProbeDesign(
        groups=tuple(names), shares=share_CK[_greedy(_contrasts(loss_FK), _log_shares(share_CK), probes)]
    )


def sharp_mixtures(n_groups: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random mixtures that favour a random half or fewer of the groups: sharp contrasts carry the most information."""
    favoured_C1 = rng.integers(1, max(2, n_groups // 2 + 1), size=(count, 1))
    place_CK = rng.permuted(np.tile(np.arange(n_groups), (count, 1)), axis=1)
    share_CK = np.where(place_CK < favoured_C1, 1.0, FLOOR)
    return share_CK / share_CK.sum(axis=1, keepdims=True)


def _log_shares(share_CK: np.ndarray) -> np.ndarray:
    """Contrasts of log shares, in units of their own standard deviation, as losses in normal scores are in theirs."""
    contrast_CK = _contrasts(np.log(share_CK))
    return contrast_CK / contrast_CK.std()


def _contrasts(value_CK: np.ndarray) -> np.ndarray:
    return value_CK - value_CK.mean(axis=1, keepdims=True)


def _greedy(known_FK: np.ndarray, candidate_CK: np.ndarray, probes: int) -> list[int]:
    """Candidates in the order in which each adds most to the determinant of the information."""
    # The identity stands for one observation's worth of prior knowledge and keeps the matrix regular.
    inverse_KK = np.linalg.inv(known_FK.T @ known_FK + np.eye(known_FK.shape[1]))
    chosen: list[int] = []
    for _ in range(probes):
        reach_CK = candidate_CK @ inverse_KK
        gain_C = (reach_CK * candidate_CK).sum(axis=1)
        best = int(np.argmax(gain_C))
        chosen.append(best)
        inverse_KK -= np.outer(reach_CK[best], reach_CK[best]) / (1 + gain_C[best])
    return chosen
