"""The pilot: small pretraining runs that test a choice of pages before money is spent on it.

Estimates are associations over models; here models are trained on what each way of choosing gives, and measured.
A gain is a per cent of the error of `uniform`, paired by seed.

    preregistration  what is to be shown, and by which rule, frozen before any arm runs
    arms             the pages of each arm, and those of the controls
    tokenizer        the one of all arms, trained on pages drawn for it alone
    packing          pages -> token shards -> packed sequences in an order that arms share
    training         one run by transformers.Trainer, which may be killed at any moment
    measuring        lm-eval and held-out bits per byte of a trained model
    statistics       paired intervals, power, trend, ranks
    comparison       every arm against uniform and the best baseline
"""
