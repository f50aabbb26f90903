"""Progress of long work, as data: rooms report it through a callback and know nothing of who shows it.

The command line draws bars from it, a Dagster step turns it into throttled log lines and observations.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Work done so far, in units of `unit` (``"tokens"``, ``"steps"``, ``"pages"``), `seconds` after it began.

    `share_of_peak` is the share of the device's matrix-product rate that goes into it, where that is known.
    """

    done: int
    total: int | None
    unit: str
    seconds: float
    share_of_peak: float | None = None

    @property
    def rate(self) -> float:
        """Units per second; 0 before the first one is done."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """Time left at the mean rate so far; None while the total or the rate is unknown."""
        if self.total is None or self.rate == 0:
            return None
        return max(self.total - self.done, 0) / self.rate


Report = Callable[[Progress], None]
