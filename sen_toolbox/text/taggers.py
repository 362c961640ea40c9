"""Taggers: tell the nouns and adjectives of a caption."""

import re
from collections.abc import Iterable, Sequence

from sen_toolbox.registry import TASK_UTILS

# Penn Treebank tags of what the SEN release keeps: PRP, PRP$, NN, NNS, NNP, NNPS, JJ, JJR, JJS.
KEPT_TAGS = ('PRP', 'NN', 'JJ')


def join_kept(tagged: Iterable[tuple[str, str]]) -> str:
    """Returns the words whose Penn Treebank tag marks a pronoun, noun or adjective.

    Args:
        tagged: Pairs of word and tag, in the order of the caption.
    """
    return ' '.join(word for word, tag in tagged if tag.startswith(KEPT_TAGS))


@TASK_UTILS.register_module()
class NLTKTagger:
    """Prunes as the SEN release does: NLTK's sentence splitter, tokenizer and perceptron tagger."""

    @property
    def version(self) -> str:
        """What the result depends on besides the caption; names a cache."""
        import nltk

        return f'NLTKTagger, nltk {nltk.__version__}'

    def prune(self, caption: str) -> str:
        """Returns the pronouns, nouns and adjectives, joined by one space; may be empty.

        Raises:
            FileNotFoundError: If NLTK's tables are not installed; says how to get them.
        """
        return join_kept(self._tagged(caption))

    def tag(self, words: Sequence[str]) -> list[str]:
        """The Penn Treebank tag of each word of a caption.

        Raises:
            FileNotFoundError: If NLTK's tables are not installed; says how to get them.
        """
        return [tag for _, tag in self._tagged(words)]

    def _tagged(self, caption: str | Sequence[str]) -> list[tuple[str, str]]:
        # Imported here because only configs that tag need it.
        import nltk

        try:
            words = nltk.word_tokenize(caption) if isinstance(caption, str) else list(caption)
            return nltk.pos_tag(words)
        except LookupError as error:
            raise FileNotFoundError(
                'NLTKTagger needs tables of NLTK that are not installed: run '
                '"python -m nltk.downloader punkt_tab averaged_perceptron_tagger_eng" '
                'or, without network, copy them and set NLTK_DATA to their folder; '
                "or use tagger=dict(type='RuleTagger'), which needs none"
            ) from error


_NOT_KEPT = frozenset(
    # determiners, numbers
    'a an the this that these those each every both all some any no another either neither '
    'one two three four five six seven eight nine ten '
    # prepositions, conjunctions
    'in on at of off to from with without by for about above across after against along among '
    'around as before behind below beneath beside besides between beyond but and or nor so yet if '
    'because while although though than into onto near over past per through throughout toward '
    'towards under underneath until up upon via down out inside outside like unlike during since '
    # adverbs
    'also very too just not only rather quite almost away back forward forwards there here then '
    'now still together apart slightly somewhat maybe perhaps really mostly more most less '
    'when where how why again ahead further alone well '
    # wh-words
    'which who whom whose what whatever '
    # auxiliaries and the verbs that describe people
    'is are was were be been being am do does did has have had having can could may might must '
    'shall should will would '
    'appears appear seems seem looks look wears wear wore worn walks walk walked carries carry '
    'carried holds hold held stands stand stood sits sit sat faces faced goes go comes come '
    'rides ride pushes push pulls pull pulled covers covered covering hangs hung makes make made '
    'takes take took gets get got shows show shown uses use used reaches falls fall comes ends '
    'matches keeps kept put puts turns turned runs run tied tucked rolled paired dressed '
    'wearing walking carrying holding standing sitting riding pushing pulling facing going coming '
    'looking talking using making taking getting reaching hanging leaning running turning '
    'heading moving stepping appearing featuring showing having swinging bending pointing '
    'slung draped strapped clad seen viewed partially'.split()
)
_WORD = re.compile(r'[^\W_]+(?:-[^\W_]+)*')
# As in "woman's", "he's", "don't".
_CLITIC = re.compile(r"(?:n[’']t|[’'](?:s|re|ve|ll|d|m))\b", re.IGNORECASE)


@TASK_UTILS.register_module()
class RuleTagger:
    """Prunes by word lists and suffixes; close to ``NLTKTagger`` and needs no data.

    Every word counts as a noun or an adjective unless it is a number, ends in -ly or stands in a
    list of function words and of the verbs that descriptions of people use.
    """

    version = 'RuleTagger 1'

    def prune(self, caption: str) -> str:
        """Returns the pronouns, nouns and adjectives, joined by one space; may be empty."""
        words = _WORD.findall(_CLITIC.sub('', caption))
        return ' '.join(word for word in words if self._is_kept(word.lower()))

    def tag(self, words: Sequence[str]) -> list[str]:
        """NN for each word that counts as a noun or an adjective, nothing for others."""
        return [
            'NN' if _WORD.fullmatch(word) and self._is_kept(word.lower()) else '' for word in words
        ]

    def _is_kept(self, word: str) -> bool:
        return not (word in _NOT_KEPT or word.isdigit() or (word.endswith('ly') and len(word) > 4))
