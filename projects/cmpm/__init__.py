"""CMPM/C as a plug-in: its loss and MobileNet-v1."""

from . import cmpm, mobilenet  # registers the parts

__all__ = ['cmpm', 'mobilenet']
