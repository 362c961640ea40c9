"""Registers the tokenizers, which themselves know neither MMEngine nor torch."""

from collections.abc import Mapping

from sen_toolbox.registry import TOKENIZERS

from .tokenizers import CLASSES
from .tokens import Tokenizer

for _cls in CLASSES:
    TOKENIZERS.register_module(module=_cls)


def as_tokenizer(tokenizer: Tokenizer | Mapping) -> Tokenizer:
    """A tokenizer, built if it is given as a config."""
    return TOKENIZERS.build(tokenizer) if isinstance(tokenizer, Mapping) else tokenizer
