"""Text encoders: tokens in, embeddings out."""

from sen_toolbox.lazy_names import lazy_names

# The registry looks up a part here, too, and imports its module alone.
HOMES = {
    'BERT': 'bert',
    'CLIPTextTransformer': 'clip_text',
    'RecurrentBERT': 'bert_lstm',
    'RecurrentTextEncoder': 'lstm',
    'TwoLSTMs': 'two_lstms',
}
__all__ = [*HOMES]
__getattr__ = lazy_names(__name__, HOMES)
