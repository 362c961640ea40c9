"""What uses a trained model: encoding images and sentences to rank one by the other."""

from .encoder import PairEncoder

__all__ = ['PairEncoder']
