"""What models of targets given their sources say: alignments, components, and quality by length."""

from probseq.data.sources import references_of, rows_of_sources
from probseq.transduction.alignments import (
    PairAlignment,
    has_attention,
    has_positions,
    has_states,
    most_probable_path,
    read_alignment,
    state_posterior,
)
from probseq.transduction.components import (
    MAX_COMPONENTS,
    WordComponents,
    component_posterior,
    num_components,
    read_components,
)
from probseq.transduction.errors import (
    ErrorRates,
    TranscriptionErrors,
    decoding_errors,
    transcription_errors,
)
from probseq.transduction.lengths import LengthBins, length_bins

__all__ = [
    "MAX_COMPONENTS",
    "ErrorRates",
    "LengthBins",
    "PairAlignment",
    "TranscriptionErrors",
    "WordComponents",
    "component_posterior",
    "decoding_errors",
    "has_attention",
    "has_positions",
    "has_states",
    "length_bins",
    "most_probable_path",
    "num_components",
    "read_alignment",
    "read_components",
    "references_of",
    "rows_of_sources",
    "state_posterior",
    "transcription_errors",
]
