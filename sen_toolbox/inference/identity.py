"""Which model made a vector."""

from dataclasses import dataclass

from sen_toolbox.messages import printable


@dataclass(frozen=True)
class ModelId:
    """The model that made the vectors of an index.

    Attributes:
        name: For messages.
        fingerprint: Hash of weights and settings; equal for equal embeddings.
        dim: Length of an embedding.
    """

    name: str
    fingerprint: str
    dim: int

    def __str__(self) -> str:
        return f'{self.name!r} ({self.dim} numbers, fingerprint {printable(self.fingerprint[:12])})'
