"""CTLG, the tables' Gen: a ViT and a BERT trained on mixed pairs and varied captions."""

from . import transforms

__all__ = ['transforms']
