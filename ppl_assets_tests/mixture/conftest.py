"""Hypothesis without its deadline: no test here measures time."""

from hypothesis import settings

settings.register_profile("without a clock", deadline=None)
settings.load_profile("without a clock")
