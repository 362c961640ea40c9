"""Mixed precision on any device that torch can autocast; MMEngine's wrapper refuses the CPU."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from sen_toolbox.checks import checked_whole_number, is_whole_number
from sen_toolbox.messages import shown
from sen_toolbox.registry import OPTIM_WRAPPERS

DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16}


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Runs the forward pass under autocast and keeps float32 master weights.

    Args:
        dtype: 'float16', with dynamic loss scaling, or 'bfloat16', which needs none.
        **kwargs: Passed to ``OptimWrapper``: ``optimizer``, ``clip_grad``, ...

    Raises:
        ValueError: If the dtype is neither.
    """

    def __init__(self, *, dtype: str = 'float16', **kwargs) -> None:
        super().__init__(**kwargs)
        if dtype not in DTYPES:
            raise ValueError(f'dtype is one of {sorted(DTYPES)}, got {dtype!r}')
        self.dtype = DTYPES[dtype]
        self.device_type = torch.device(get_device()).type
        self.loss_scaler = torch.amp.GradScaler(self.device_type, enabled=dtype == 'float16')
        self.skipped_steps = 0
        self._scale = self.loss_scaler.get_scale()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocasts what runs inside."""
        with super().optim_context(model), torch.autocast(self.device_type, self.dtype):
            yield

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Backward pass of the scaled loss."""
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs) -> None:
        """Optimiser step, left out when a scaled gradient overflowed.

        The log shows as ``skipped_steps`` how often that happened since the training began.
        """
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()
        if self.loss_scaler.is_enabled():
            # The scale falls after an overflow and at no other time. Reading it waits for the
            # device, as MMEngine does right afterwards to log the losses.
            before, self._scale = self._scale, self.loss_scaler.get_scale()
            self.skipped_steps += self._scale < before
            self.message_hub.update_scalar('train/skipped_steps', self.skipped_steps)

    def state_dict(self) -> dict:
        """State of the optimiser and, under 'loss_scaler', of the scaler."""
        return {
            **super().state_dict(),
            'loss_scaler': self.loss_scaler.state_dict(),
            'skipped_steps': self.skipped_steps,
        }

    def load_state_dict(self, state_dict: dict) -> None:
        """Restores :meth:`state_dict`.

        Raises:
            ValueError: If the state of the scaler is not one.
        """
        state_dict = dict(state_dict)
        # An interrupted float32 run may be continued in half precision.
        if scaler := state_dict.pop('loss_scaler', None):
            _check_scaler(scaler)
            self.loss_scaler.load_state_dict(scaler)
            self._scale = self.loss_scaler.get_scale()
        self.skipped_steps = checked_whole_number(
            'skipped_steps of the optimizer', state_dict.pop('skipped_steps', 0)
        )
        super().load_state_dict(state_dict)


def _check_scaler(state: Any) -> None:
    """A scale that is not a number would have every step left out in silence."""
    for name in torch.amp.GradScaler('cpu').state_dict():
        value = state.get(name) if isinstance(state, Mapping) else None
        # Steps since the scale last changed; all others are factors and a length.
        fits = (
            is_whole_number(value)
            if name == '_growth_tracker'
            else isinstance(value, int | float) and 0 < value < math.inf
        )
        if not fits:
            raise ValueError(f'the loss_scaler of the optimizer has the {name} {shown(value)}')
