"""Text encoders: tokens in, embeddings out."""

from .bert import BERT
from .bert_lstm import RecurrentBERT
from .clip_text import CLIPTextTransformer
from .lstm import RecurrentTextEncoder
from .two_lstms import TwoLSTMs

__all__ = ['BERT', 'CLIPTextTransformer', 'RecurrentBERT', 'RecurrentTextEncoder', 'TwoLSTMs']
