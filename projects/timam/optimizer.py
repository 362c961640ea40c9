"""One optimiser that is Adam for some parameters and gradient descent with momentum for others."""

import re
from collections.abc import Callable, Iterable

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.optim import RuleOptimWrapperConstructor
from sen_toolbox.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS


@OPTIMIZERS.register_module()
class SGDAndAdam(torch.optim.Optimizer):
    """Adam for the parameters of groups with ``adaptive`` true, SGD with momentum for the others.

    TIMAM trains the image encoder and the discriminator by SGD and the text encoder by Adam. Both
    add the decay to the gradient.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        adaptive: Regular expression, found in the names of Adam's parameters; what divides the
            groups by it is ``SGDAndAdamConstructor``.
        momentum: SGD's.
        betas: Adam's.
        eps: Adam's.
        weight_decay: Decay of both.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        *,
        adaptive: str,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.pattern = adaptive
        settings = dict(momentum=momentum, betas=tuple(betas), eps=eps, weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, adaptive=False, **settings))

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:
        """One step of all parameters that have a gradient."""
        for group in self.param_groups:
            update = _adam if group['adaptive'] else _momentum
            for parameter in group['params']:
                if parameter.grad is not None:
                    gradient = parameter.grad.add(parameter, alpha=group['weight_decay'])
                    update(parameter, gradient, self.state[parameter], group)


def _momentum(parameter: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
    if not state:
        state['velocity'] = torch.zeros_like(parameter)
    state['velocity'].mul_(group['momentum']).add_(gradient)
    parameter.sub_(state['velocity'], alpha=group['lr'])


def _adam(parameter: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
    if not state:
        state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
    state['step'] += 1
    first, second = group['betas']
    state['mean'].lerp_(gradient, 1 - first)
    state['square'].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    length = state['square'].div(1 - second ** state['step']).sqrt_().add_(group['eps'])
    parameter.addcdiv_(state['mean'], length, value=-group['lr'] / (1 - first ** state['step']))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SGDAndAdamConstructor(RuleOptimWrapperConstructor):
    """Rules by name as everywhere, and groups of ``SGDAndAdam`` divided by its ``adaptive``."""

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Returns the wrapper for all parameters of ``model`` that require a gradient.

        Raises:
            ValueError: If no parameter is for Adam, or none for SGD.
        """
        wrapper = super().__call__(model)
        optimizer = wrapper.optimizer
        names = {id(p): name for name, p in unwrapped(model).named_parameters()}
        divided = []
        for group in optimizer.param_groups:
            for adaptive in (False, True):
                params = [
                    p
                    for p in group['params']
                    if bool(re.search(optimizer.pattern, names[id(p)])) == adaptive
                ]
                if params:
                    divided.append({**group, 'params': params, 'adaptive': adaptive})
        if len({group['adaptive'] for group in divided}) < 2:
            raise ValueError(
                f'adaptive={optimizer.pattern!r} is to be found in the names of some parameters '
                'and not in those of all: take a part of the name of what Adam trains'
            )
        optimizer.param_groups[:] = divided
        return wrapper
