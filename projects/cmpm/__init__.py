"""CMPM/C as a plug-in: MobileNet-v1; its losses are the toolbox's."""

from . import mobilenet

__all__ = ['mobilenet']
