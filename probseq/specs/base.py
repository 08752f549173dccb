"""What the settings of every kind of model share."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probseq.data.corpus import Corpus
from probseq.errors import InputError
from probseq.inference.run import UNLIMITED_STEPS, Fit
from probseq.models import emissions
from probseq.models.base import Model
from probseq.models.emissions import Emission

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Settings(BaseModel):
    """Values out of a TOML file: no unknown keys, no silent conversions, nothing changes later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class BaseSpec(Settings):
    """What every kind can do.

    Attributes:
        of_pairs: whether the kind needs a source for every sequence.
    """

    of_pairs: ClassVar[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _seconds_alone(cls, values: Any) -> Any:
        """A budget in seconds or tokens alone is not cut short by the default number of steps."""
        if not isinstance(values, dict) or "num_steps" not in cls.model_fields:
            return values
        if any(values.get(budget) is not None for budget in ("seconds", "num_tokens")):
            return {"num_steps": UNLIMITED_STEPS, **values}
        return values

    def build(self, corpus: Corpus, seed: int) -> Model:
        """The model at its starting points, for the symbols or the vectors of `corpus`."""
        raise NotImplementedError

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        """Fit `model` to the training part; only choices are made on the validation part."""
        raise NotImplementedError


class EmissionSpec(BaseSpec):
    """What every kind has that can model vectors: the family of distributions that one token is drawn from."""

    emission: Literal["categorical", "bernoulli", "poisson", "gaussian", "gaussian-mixture"] | None = Field(
        None, description="default: categorical for symbols; for vectors the corpus's own, mostly gaussian"
    )
    covariance: Literal["diag", "full", "tied", "spherical"] | None = Field(
        None, description="of gaussian: what its covariance may be; default: diag"
    )
    num_components: Count | None = Field(None, description="of gaussian-mixture; default: 2")

    def family(self, corpus: Corpus, concentration: float = 1.0, covariance_strength: float = 0.0) -> Emission:
        """The emission family for this corpus.

        Args:
            corpus: V or D, and the default family.
            concentration: of the prior of a categorical or Bernoulli family.
            covariance_strength: of the prior of a Gaussian family.

        Raises:
            InputError: a family that does not fit the data, or a setting of another family.
        """
        name = self.emission or ("categorical" if corpus.is_symbolic else corpus.emission)
        if (name == "categorical") != corpus.is_symbolic:
            held = "symbols" if corpus.is_symbolic else f"vectors of size {corpus.num_dims}"
            raise InputError(
                f"received emission {name!r}, and corpus {corpus.name!r} holds {held}; expected categorical for "
                "symbols, and bernoulli, poisson, gaussian or gaussian-mixture for vectors (level vector)"
            )
        for setting, owner in (("covariance", "gaussian"), ("num_components", "gaussian-mixture")):
            if getattr(self, setting) is not None and name != owner:
                raise InputError(f"{setting} is a setting of emission {owner!r}, not of {name!r}; leave it out")
        match name:
            case "categorical":
                return emissions.Categorical(corpus.num_symbols, concentration=concentration)
            case "bernoulli":
                return emissions.Bernoulli(corpus.num_dims, concentration=concentration)
            case "poisson":
                return emissions.Poisson(corpus.num_dims)
            case "gaussian":
                return emissions.Gaussian(
                    corpus.num_dims, covariance=self.covariance or "diag", covariance_strength=covariance_strength
                )
        return emissions.GaussianMixture(
            corpus.num_dims, num_components=self.num_components or 2, covariance_strength=covariance_strength
        )
