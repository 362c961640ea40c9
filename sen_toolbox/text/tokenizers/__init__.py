"""The tokenizers. None of them needs torch or MMEngine, so that an exported model can be asked."""

from collections.abc import Mapping

from sen_toolbox.text.tokens import Tokenizer

from .clip import CLIPTokenizer
from .library import LibraryTokenizer
from .vocabulary import VocabularyTokenizer
from .wordpiece import WordPieceTokenizer

__all__ = [
    'CLIPTokenizer',
    'LibraryTokenizer',
    'VocabularyTokenizer',
    'WordPieceTokenizer',
    'build_tokenizer',
]

CLASSES = (CLIPTokenizer, LibraryTokenizer, VocabularyTokenizer, WordPieceTokenizer)


def build_tokenizer(config: Mapping) -> Tokenizer:
    """Builds one of these tokenizers from its config, where TOKENIZERS is not to be imported.

    Args:
        config: What ``describe`` returns: ``type``, the name of a class, and its arguments.

    Raises:
        KeyError: If no such tokenizer is here.
    """
    arguments = dict(config)
    name = arguments.pop('type')
    classes = {cls.__name__: cls for cls in CLASSES}
    if name not in classes:
        raise KeyError(f'there is no tokenizer {name!r} here; there are {", ".join(classes)}')
    return classes[name](**arguments)
