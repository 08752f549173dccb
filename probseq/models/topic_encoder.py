"""The encoder of an amortised guide: from the words of a document to a normal distribution of its topics."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, softplus

from probseq.models.base import restart_generator
from probseq.ops.topics import Documents

_FIRST_SCALE = 0.5  # standard deviation of every coordinate where training begins


class TopicEncoder(nn.Module):
    r"""Two layers of softplus units for every restart, from counts to mean and scale of K - 1 coordinates.

    What goes in is :math:`\log(1 + n_w)`, which a few frequent words do not drown. The first layer adds up rows of a
    table, one for each distinct word of a document, so that nothing of size ``(documents, words)`` is built.

    Args:
        num_symbols: V.
        num_topics: K.
        hidden_dim: H.
        num_restarts: R.
        seed: of the weights.
        dtype: of the weights.

    Reference:
        A. Srivastava, C. Sutton (2017), "Autoencoding variational inference for topic models".
    """

    def __init__(
        self, num_symbols: int, num_topics: int, hidden_dim: int, num_restarts: int, seed: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        sizes = {"words": (num_symbols, hidden_dim), "hidden": (hidden_dim, hidden_dim)}
        shapes = {**sizes, "out": (hidden_dim, 2 * (num_topics - 1))}
        sources = [restart_generator(seed, r) for r in range(num_restarts)]
        for name, shape in shapes.items():
            scale = 0.0 if name == "out" else 1 / math.sqrt(hidden_dim)  # all documents begin alike
            drawn = [scale * torch.randn(shape, generator=source, dtype=torch.float64) for source in sources]
            self._set(name, torch.stack(drawn).to(dtype))
            self._set(f"{name}_bias", torch.zeros(num_restarts, 1, shape[1], dtype=dtype))
        self.out_bias.data[..., num_topics - 1 :] = math.log(_FIRST_SCALE)

    words: nn.Parameter
    hidden: nn.Parameter
    out: nn.Parameter
    words_bias: nn.Parameter
    hidden_bias: nn.Parameter
    out_bias: nn.Parameter

    def _set(self, name: str, value: Tensor) -> None:
        setattr(self, name, nn.Parameter(value, requires_grad=False))

    def forward(self, docs: Documents) -> tuple[Float[Tensor, "R N J"], Float[Tensor, "R N J"]]:
        """Means, and logarithms of the standard deviations."""
        count = docs.count.log1p().to(self.words.dtype)
        read = [
            embedding_bag(docs.word, table, docs.offsets[:-1], mode="sum", per_sample_weights=count)
            for table in self.words
        ]
        units = softplus(torch.stack(read) + self.words_bias)
        units = softplus(units @ self.hidden + self.hidden_bias)
        mean, log_scale = (units @ self.out + self.out_bias).chunk(2, dim=-1)
        return mean, log_scale.clamp(-10.0, 5.0)
