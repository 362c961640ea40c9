"""Learning rate and decay of each parameter from a table of rules on its name."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from mmengine.optim import OptimWrapper
from torch import nn

from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RuleOptimWrapperConstructor:
    """Builds an optimiser with one parameter group per distinct (lr, weight decay).

    ``paramwise_cfg.rules`` is a list of ``dict(pattern=..., lr_mult=..., decay_mult=...)``. A rule
    applies to every parameter in whose name the regular expression is found; rules are read in
    order and a later one replaces the factor that an earlier one set. MMEngine's own constructor
    multiplies them and treats biases of norms apart, which cannot express the releases' rules.

    A rule must match a parameter, trained or not, so that a misspelt or outdated one is found. One
    that methods share of which some lack the part says ``optional=True``.

    Args:
        optim_wrapper_cfg: Config of the wrapper with its ``optimizer``.
        paramwise_cfg: ``dict(rules=[...])``, or None for one group.

    Raises:
        KeyError: If a rule or ``paramwise_cfg`` has an unknown key.
        ValueError: If a rule has no pattern or one that is not a regular expression; when it is
            called, if a rule matches no parameter and is not optional.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        _refuse_unknown(paramwise_cfg or {}, {'rules'}, 'paramwise_cfg')
        self.rules = list((paramwise_cfg or {}).get('rules', ()))
        for rule in self.rules:
            known = {'pattern', 'lr_mult', 'decay_mult', 'optional'}
            _refuse_unknown(rule, known, f'rule {dict(rule)}')
            try:
                re.compile(rule['pattern'])
            except (KeyError, TypeError, re.error) as error:
                raise ValueError(
                    f'rule {dict(rule)} needs a regular expression as its pattern: {error}'
                ) from error

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Returns the wrapper for all parameters of ``model`` that require a gradient."""
        optimizer = dict(self.optim_wrapper_cfg.pop('optimizer'))
        lr, decay = optimizer['lr'], optimizer.get('weight_decay', 0.0)
        # Unwrapped, or rules would see other names on several processes.
        model = unwrapped(model)
        self._refuse_unmatched([name for name, _ in model.named_parameters()])
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
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

    def _refuse_unmatched(self, names: list[str]) -> None:
        for rule in self.rules:
            matches = any(re.search(rule['pattern'], name) for name in names)
            if not matches and not rule.get('optional'):
                raise ValueError(
                    f'the optimiser rule {dict(rule)} matches no parameter; '
                    f'{_alike(rule["pattern"], names)} remove it, or add optional=True where '
                    'models may lack the part'
                )


def _alike(pattern: str, names: Iterable[str]) -> str:
    """Parameters with parts named like the words of a pattern, as a sentence."""
    parts = {part for name in names for part in name.split('.')}
    words = re.findall(r'\w{2,}', re.sub(r'\\[a-zA-Z]', '', pattern))
    close = {part for word in words for part in get_close_matches(word, parts)}
    found = [name for name in names if close & set(name.split('.'))]
    return f'alike are {", ".join(found[:3])};' if found else 'nothing is alike;'


def _refuse_unknown(given: dict, known: set[str], where: str) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise KeyError(f'{where} has unknown keys {unknown}; known are {sorted(known)}')
