"""CM-MoCo as a plug-in: momentum encoders with queues."""

from . import momentum  # registers the part

__all__ = ['momentum']
