"""CMPM/C as a plug-in: its losses, its text encoder and MobileNet-v1."""

from . import cmpm, mobilenet, text  # registers the parts

__all__ = ['cmpm', 'mobilenet', 'text']
