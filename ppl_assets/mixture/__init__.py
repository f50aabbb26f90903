"""The mixture: how much of each domain to train on, given estimates, caps, the pool and the gate's verdict.

Constraints: weights are shares of the mixture, none negative, none above its cap, their sum 1; groups of domains may
have floors and ceilings. Optimal means: no other mixture under the same constraints has a larger sum of weight times
score (`linear`), is nearer to the scores (`l2`), or has a better sum less temperature times KL divergence from the pool
(`kl`).
Where the gate abstains nothing is optimised: the pool's own distribution is the mixture.
"""

from ppl_assets.mixture.caps import availability_caps, integer_tokens
from ppl_assets.mixture.decision import Candidates, Mixture, mix
from ppl_assets.mixture.group_bounds import GroupBound
from ppl_assets.mixture.objective import Objective
from ppl_assets.mixture.pareto import Compromise, pareto_front
from ppl_assets.mixture.projection import l2, linear
from ppl_assets.mixture.several_targets import gains, mean_candidates
from ppl_assets.mixture.shadow_price import ShadowPrice, shadow_prices, worst_case_prices
from ppl_assets.mixture.worst_case import mix_worst_case

__all__ = [
    "linear",
    "l2",
    "availability_caps",
    "integer_tokens",
    "Candidates",
    "Objective",
    "GroupBound",
    "Mixture",
    "mix",
    "mean_candidates",
    "mix_worst_case",
    "pareto_front",
    "gains",
    "Compromise",
    "shadow_prices",
    "worst_case_prices",
    "ShadowPrice",
]
