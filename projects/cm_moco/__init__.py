"""CM-MoCo as a plug-in: momentum encoders with queues, and the losses beside them."""

from . import classifier, losses, momentum  # registers the parts

__all__ = ['classifier', 'losses', 'momentum']
