"""Retirement: a domain is removed for good, and its absence is proven and signed off.

Stricter than a rule that denies: a denied domain stays listed with weight 0, a retired one vanishes. `retire` writes it
into the list of retired domains (``ppl_assets.retired``, read wherever pages are sampled and losses imported), deletes
what is stored of it at once, brings everything that was computed with it up to date without it, and then searches every
table and artefact of the state folder for its name and its text.

What it does not reach: files outside the state folder (the source, exports, backups) and the weights of models that
others trained. The sign-off names them.
"""

from ppl_assets.retirement.retire import retire

__all__ = ["retire"]
