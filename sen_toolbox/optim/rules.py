"""Learning rate and decay of each parameter from a table of rules on its name."""

import re

from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import nn

from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RuleOptimWrapperConstructor:
    """Builds an optimiser with one parameter group per distinct (lr, weight decay).

    ``paramwise_cfg.rules`` is a list of ``dict(pattern=..., lr_mult=..., decay_mult=...)``. A rule
    applies to every parameter in whose name the regular expression is found; rules are read in
    order and a later one replaces the factor that an earlier one set. MMEngine's own constructor
    multiplies them and treats biases of norms apart, which cannot express the releases' rules.

    Args:
        optim_wrapper_cfg: Config of the wrapper with its ``optimizer``.
        paramwise_cfg: ``dict(rules=[...])``, or None for one group.

    Raises:
        KeyError: If a rule or ``paramwise_cfg`` has an unknown key.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        _refuse_unknown(paramwise_cfg or {}, {'rules'}, 'paramwise_cfg')
        self.rules = list((paramwise_cfg or {}).get('rules', ()))
        for rule in self.rules:
            _refuse_unknown(rule, {'pattern', 'lr_mult', 'decay_mult'}, f'rule {rule}')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Returns the wrapper for all parameters of ``model`` that require a gradient."""
        optimizer = dict(self.optim_wrapper_cfg.pop('optimizer'))
        lr, decay = optimizer['lr'], optimizer.get('weight_decay', 0.0)
        groups = {}
        # Unwrapped, or rules would see other names on several processes.
        for name, parameter in unwrapped(model).named_parameters():
            if parameter.requires_grad:
                lr_mult, decay_mult = self.factors(name)
                groups.setdefault((lr * lr_mult, decay * decay_mult), []).append(parameter)
        optimizer['params'] = [
            dict(params=params, lr=group_lr, weight_decay=group_decay)
            for (group_lr, group_decay), params in groups.items()
        ]
        wrapper = {'type': 'OptimWrapper', **self.optim_wrapper_cfg}
        wrapper['optimizer'] = OPTIMIZERS.build(optimizer)
        return OPTIM_WRAPPERS.build(wrapper)

    def factors(self, name: str) -> tuple[float, float]:
        """Factors of the learning rate and the decay for the parameter of this name."""
        lr_mult, decay_mult = 1.0, 1.0
        for rule in self.rules:
            if re.search(rule['pattern'], name):
                lr_mult = rule.get('lr_mult', lr_mult)
                decay_mult = rule.get('decay_mult', decay_mult)
        return lr_mult, decay_mult


def _refuse_unknown(given: dict, known: set[str], where: str) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise KeyError(f'{where} has unknown keys {unknown}; known are {sorted(known)}')
