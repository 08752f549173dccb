"""A part of a data set, end to end: what a starting point looks at."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.inference.spectral import Triples

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK = 256  # tokens that stay together when a part of the data is taken
_MAX_CONTEXTS = 200  # so many of the most frequent symbols are told apart as neighbors
_TINY = np.finfo(np.float64).tiny


class Sample:
    """The observed tokens of evenly spaced blocks of a data set, in order.

    Args:
        data: the data set; M of its tokens are taken.
        max_tokens: how many tokens may be taken, up to whole blocks.
        num_symbols: V, where the tokens are symbols.

    What a starting point shares out among the states are *rows*: the V symbols, or else the M tokens themselves.

    Attributes:
        values: ``(M,)`` symbols or ``(M, D)`` vectors.
        rows: ``(M,)``, the row that each token is.
        weights: ``(M,)``, the weights of their sequences.
        position: ``(M,)``, how far into its sequence each token stands, from 0 to 1.
        first: ``(M,)`` bool, True at the first token of a sequence.
        follows: ``(M,)`` bool, True where the token before it in the sequence was taken, too.
        states: ``(M,)``, the states that are known, -1 where unknown; None where none is.

    Raises:
        InputError: no token was observed.
    """

    def __init__(self, data: Sequences, max_tokens: int, num_symbols: int = 0) -> None:
        stride = -(-data.num_tokens // max_tokens)
        blocks = np.arange(0, data.num_tokens, _BLOCK * stride)[:, None] + np.arange(_BLOCK)
        index = blocks[blocks < data.num_tokens]
        if data.missing is not None:
            index = index[~data.missing[index]]
        if len(index) == 0:
            raise InputError("there is nothing to start from: no token was observed")
        self.states = None if data.states is None else data.states[index]
        row = np.searchsorted(data.offsets, index, side="right") - 1
        self.data, self.num_symbols, self.values = data, num_symbols, np.asarray(data.values[index])
        self.rows = self.values if data.is_symbolic else np.arange(len(index))
        self.weights = data.weights[row]
        self.position = (index - data.offsets[row]) / data.lengths[row]
        self.first = index == data.offsets[row]
        self.follows = np.append(False, np.diff(index) == 1) & ~self.first

    def windows(self, max_tokens: int) -> Sequences:
        """Windows of observed tokens, evenly spaced over all of the data and about `max_tokens` long in total.

        They have no source, which a cut would tear away from its place.
        """
        data = self.data
        whole = Sequences(data.values, data.offsets, data.weights, missing=data.missing, states=data.states)
        windows = whole.windows(_BLOCK)
        return windows[np.flatnonzero(windows.num_observed)[:: -(-data.num_tokens // max_tokens)]]

    def batch(self, device: torch.device) -> Batch:
        """The tokens as one sequence: emissions do not ask where a sequence begins."""
        return Sequences(self.values, np.array([0, len(self.values)])).batch(device=device)

    def pair_counts(self, labels: Ints, num_labels: int) -> Floats:
        """``(G, G)``: how often a token of one label is followed by one of another."""
        after = np.flatnonzero(self.follows)
        counts = np.zeros((num_labels, num_labels))
        np.add.at(counts, (labels[after - 1], labels[after]), self.weights[after])
        return counts

    @cached_property
    def mass(self) -> Floats:
        """``(rows,)``: how often each row was observed; all rows together as often as all tokens of the data."""
        data = self.data
        if not data.is_symbolic:
            scaled: Floats = self.weights * (data.num_observed @ data.weights / self.weights.sum())
            return scaled
        weights, values = np.repeat(data.weights, data.lengths), data.values
        if data.missing is not None:
            weights, values = weights[~data.missing], values[~data.missing]
        return np.bincount(values, weights, minlength=self.num_symbols).astype(np.float64)

    @cached_property
    def features(self) -> Floats:
        """``(rows, F)``: what is compared when rows are clustered: vectors, or the neighbors of symbols."""
        return self._contexts() if self.data.is_symbolic else self._points()

    def _points(self) -> Floats:
        """Vectors in units of the data, mean 0 and variance 1; an entry that is missing is 0."""
        weights = np.where(np.isnan(self.values), 0.0, self.weights[:, None])
        weights = weights / weights.sum(axis=0).clip(min=_TINY)
        mean = np.nansum(self.values * weights, axis=0)
        centered = np.nan_to_num(self.values - mean)
        scale = np.sqrt((centered**2 * weights).sum(axis=0))
        points: Floats = centered / np.where(scale > 1e-12 * np.abs(mean), scale, np.inf)  # what does not vary is 0
        return points

    def _contexts(self) -> Floats:
        """Square roots of the distributions of each symbol's left and right neighbors.

        The last column of either side stands for rare neighbors and for none. Square roots make the Euclidean distance
        one between distributions (Hellinger's), in which a difference at a rare neighbor is seen, too.
        """
        order = np.argsort(-self.mass, kind="stable")[:_MAX_CONTEXTS]
        column = np.full(self.num_symbols + 1, len(order))
        column[order] = np.arange(len(order))
        none = self.num_symbols
        left = np.where(self.follows, np.roll(self.values, 1), none)
        right = np.where(np.roll(self.follows, -1), np.roll(self.values, -1), none)
        sides = []
        for neighbor in (left, right):
            counts = np.zeros((self.num_symbols, len(order) + 1))
            np.add.at(counts, (self.values, column[neighbor]), self.weights)
            sides.append(np.sqrt(counts / counts.sum(axis=1, keepdims=True).clip(min=_TINY)))
        return np.concatenate(sides, axis=1)

    @cached_property
    def triples(self) -> Triples:
        """The triples of neighboring symbols."""
        last = np.flatnonzero(self.follows & np.roll(self.follows, 1))
        size = self.num_symbols
        first, middle, end = (self.values[last - back].astype(np.int64) for back in (2, 1, 0))
        codes, inverse = np.unique((first * size + middle) * size + end, return_inverse=True)
        counts = np.bincount(inverse, self.weights[last], minlength=len(codes))
        symbols = (codes // size**2, codes // size % size, codes % size)
        return Triples(symbols, counts / max(counts.sum(), 1.0), len(last))
