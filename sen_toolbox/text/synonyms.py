"""Words that mean the same, by WordNet."""

from sen_toolbox.registry import TASK_UTILS


@TASK_UTILS.register_module()
class WordNet:
    """The lemmas of all meanings of a word, as NLTK reads them from WordNet."""

    def lemmas(self, word: str, part: str) -> list[str]:
        """Names in the order of the alphabet, that of the word among them; none if it is unknown.

        Args:
            word: The word.
            part: Its part of speech: 'n', 'a' or 'v'.

        Raises:
            FileNotFoundError: If WordNet is not installed; says how to get it.
        """
        from nltk.corpus import wordnet  # only trainings with replacements need it

        try:
            synsets = wordnet.synsets(word, part)
        except LookupError as error:
            raise FileNotFoundError(
                'WordNet is not installed: run "python -m nltk.downloader wordnet" or, without '
                'network, copy it and set NLTK_DATA to its folder; or set synonyms=None of '
                'the transform, so that words that would be replaced stay'
            ) from error
        return sorted({name for synset in synsets for name in synset.lemma_names()})
