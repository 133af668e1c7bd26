"""RoBERTa (Liu et al. 2019, arXiv 1907.11692): BERT without next-sentence prediction, with byte-level BPE.

The network is BERT's; positions begin at entry 2 of their table, there is one segment. Outputs equal those of `RobertaForMaskedLM`.
"""

import dataclasses

from rootstock.models import bert


@dataclasses.dataclass(frozen=True)
class Config(bert.Config):
    """RoBERTa-base by default. `max_length` counts the two entries that no position uses."""

    vocab_size: int = 50265
    max_length: int = 514
    position_offset: int = 2
    token_types: int = 1
    norm_eps: float = 1e-5
    pooler: bool = False


class Encoder(bert.Encoder):
    """`RobertaModel`."""


class MaskedLM(bert.MaskedLM):
    """`RobertaForMaskedLM`."""

    encoder_class = Encoder
