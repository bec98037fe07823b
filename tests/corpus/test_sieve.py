import random

import numpy as np

from tutelage.corpus.sieve import Sieve


def test_a_sieve_passes_all_that_are_there_often_enough() -> None:
    draw = random.Random(3)
    for slots in (0, 1, 7, 1000, 100_000):
        keys = np.array([draw.choice((draw.randrange(40), draw.getrandbits(64))) for _ in range(3000)], np.uint64)
        sieve = Sieve(slots)
        for part in (keys[:1], keys[1:2000], keys[:0], keys[2000:]):
            sieve.add(part)
        known, counts = np.unique(keys, return_counts=True)
        for least in (1, 2, 10, 40):
            often = sieve.often(keys, least)
            assert often[np.isin(keys, known[counts >= least])].all()
            if slots > 10_000 and least > 1:
                assert not often[np.isin(keys, known[counts == 1])].mean() > 0.1
    always = Sieve(8)
    always.add(np.zeros(1000, np.uint64))
    assert always.often(np.zeros(1, np.uint64), 255).all()
