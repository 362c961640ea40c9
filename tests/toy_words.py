"""A vocabulary for configs whose own comes from a data set that is not here."""

from mmengine.config import Config

WORDS = (
    'a an the in and with of has is are wearing wears walks she he his her their woman man boy '
    'girl person short long dark light black white red blue green grey yellow brown shirt coat '
    'jacket jeans trousers skirt dress shoes hat hair bag backpack handbag cap left right hand'
).split()


def give_words(config: Config) -> Config:
    """Puts these words in the place of every ``vocab_file``; returns the config."""
    _replace(config._cfg_dict)
    return config


def _replace(value: object) -> None:
    if isinstance(value, dict):
        if value.get('vocab_file') and value.get('type') == 'VocabularyTokenizer':
            del value['vocab_file']
            value['vocabulary'] = list(WORDS)
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            _replace(item)
