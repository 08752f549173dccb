"""The classic series of counts: major earthquakes by year."""

from __future__ import annotations

import numpy as np

from probseq.data.corpus import Corpus, build_corpus
from probseq.data.documents import Document
from probseq.data.preparation import Preparation

# USGS, National Earthquake Information Center, as in table 1.1 of W. Zucchini, I. MacDonald, "Hidden Markov Models for
# Time Series: An Introduction Using R" (2009)
_COUNTS = """
    13 14 8 10 16 26 32 27 18 32 36 24 22 23 22 18 25 21 21 14 8 11 14 23 18 17 19 20 22 19 13 26 13 14 22 24 21 22 26
    21 23 24 27 41 31 27 35 26 28 36 39 21 17 22 17 19 15 34 10 15 22 18 15 20 15 22 19 16 30 27 29 23 20 16 21 21 25
    16 18 15 18 14 10 15 8 15 6 11 8 7 18 16 13 12 13 20 15 16 12 18 15 16 13 15 16 11 11
"""


def earthquakes(preparation: Preparation, description: str) -> Corpus:
    """One series, split in time: counts as vectors, or as symbols."""
    counts = np.array(_COUNTS.split(), dtype=np.uint8)
    symbols = preparation.level == "symbol"
    return build_corpus(
        [
            Document(
                counts if symbols else counts[:, None].astype(np.float64),
                "earthquakes",
                metadata={"times": range(1900, 1900 + len(counts))},
            )
        ],
        preparation,
        name="earthquakes",
        description=description,
        columns=() if symbols else ("earthquakes",),
        emission="poisson",
    )
