"""What a run would take, said before anything runs: models x chunks x tokens, hours and cost.

Quantities: floating-point operations of forward passes and of training, counted from parameters and tokens, turned into
device hours by a rate that is measured on this machine or assumed of a named device; every assumption is a sentence of
the answer. What needs no model (sampling, estimates, the mixture) takes seconds to minutes and is not forecast.
"""
