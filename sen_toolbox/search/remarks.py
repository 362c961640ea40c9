"""What is worth saying beside the results of a query."""

from collections.abc import Sequence

from sen_toolbox.inference.usual_scores import BELOW
from sen_toolbox.search.indexing import Encoder
from sen_toolbox.search.result import Result


def remarks_on(
    encoder: Encoder, text: str, results: Sequence[Result], *, by_text_alone: bool
) -> list[str]:
    """Sentences without a capital and a full stop: words the model lacks, and that nobody fits.

    Args:
        encoder: What embedded the text.
        text: The description.
        results: What was found, the best first.
        by_text_alone: Whether scores are cosines of the text, not of a picture or marks, too.
    """
    remarks = []
    if unknown := encoder.unknown_words(text):
        remarks.append(f'this model does not know: {", ".join(unknown)}')
    usual = encoder.usual_score(text) if by_text_alone and results else None
    if usual is not None and results[0].score < usual:
        remarks.append(
            f'nobody matches well: the best score is {results[0].score:.2f}, and {1 - BELOW:.0%} '
            f'of descriptions of this length reach {usual:.2f} where somebody fits'
        )
    return remarks
