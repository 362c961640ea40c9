"""Applies dotted overrides to a config and refuses those that nothing would read.

MMEngine puts any key where it is told to, and a misspelt one then changes nothing. Here a key must
exist, or be a parameter of what is built at its place.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from copy import deepcopy
from difflib import get_close_matches
from typing import Any

import mmengine.registry
from mmengine import runner
from mmengine.config import Config, ConfigDict
from mmengine.dist import init_dist
from mmengine.registry import Registry
from mmengine.utils.dl_utils import set_multi_processing
from torch.distributed import init_process_group
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

import sen_toolbox.registry
from sen_toolbox.registry import PartRegistry

# What MMEngine calls with a dict that needs no type, by the place of the dict.
CALLED_WITH: dict[str, tuple[Callable, ...]] = {
    'randomness': (runner.Runner.set_randomness,),
    'env_cfg.mp_cfg': (set_multi_processing,),
    'env_cfg.dist_cfg': (init_dist, init_process_group),
    'train_dataloader': (DataLoader,),
    'val_dataloader': (DataLoader,),
    'test_dataloader': (DataLoader,),
    'val_cfg': (runner.ValLoop,),
    'test_cfg': (runner.TestLoop,),
    'log_processor': (runner.LogProcessor,),
    'optim_wrapper.clip_grad': (clip_grad_norm_, clip_grad_value_),
}
# Keys that no signature has, because MMEngine takes them out of a dict first: by the place of the
# dict, and by the name of the registry that builds from it.
TAKEN_OUT = {
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'train_dataloader': {'num_batch_per_epoch'},
    'optim_wrapper.clip_grad': {'type'},  # 'norm' or 'value'
}
TAKEN_OUT_BY = {'hook': {'priority'}, 'parameter scheduler': {'convert_to_iter_based'}}


def apply_overrides(config: Config, overrides: dict[str, Any], top_level: Collection[str]) -> None:
    """Sets values by dotted keys; numbers index lists.

    A key must exist or be a parameter of the registered type at its place, or of what MMEngine
    calls with a dict without a type, such as ``randomness``. A dict that is missing or None is made
    on the way: ``optim_wrapper.clip_grad.max_norm``. In whatever order they are given, outer keys
    come before inner ones, and the type of a dict before its other keys. An override below a string
    ``'$name'`` changes a copy of that value, in this place alone.

    Args:
        config: A config whose ``'$name'`` strings are not yet resolved; it is changed.
        overrides: Values by dotted key.
        top_level: The keys that the config may have at its top.

    Raises:
        KeyError: If nothing would read a key; tells the choices and what is alike.
        ValueError: If a text that is not a ``'$name'`` is to stand for a number.
    """
    for dotted in sorted(overrides, key=lambda key: (key.count('.'), not key.endswith('.type'))):
        first = dotted.split('.')[0]
        if first not in top_level:
            raise _unknown(dotted, first, top_level)
        config[first] = _with(config.get(first), dotted, 1, overrides[dotted], config)


def describe_unknown(key: str, choices: Iterable[str]) -> str:
    """What an error says about a key that is not among the choices."""
    choices = sorted(choices)
    alike = get_close_matches(key, choices, n=3)
    hint = f'did you mean {" or ".join(alike)}? ' if alike else ''
    return f'unknown key {key!r}; {hint}known are {choices}'


def check_types(part: Any, where: str = '') -> None:
    """Refuses types of which nothing is registered, before one of them is built.

    Args:
        part: A config, or a value in one.
        where: The dotted key of the value.

    Raises:
        KeyError: If nothing has that name; tells its place and what is alike.
    """
    if isinstance(part, list | tuple):
        part = dict(enumerate(part))
    if not isinstance(part, dict):
        return
    kind = part.get('type')
    elsewhere: set[str] = set()
    # MMEngine looks up one with a dot in other packages, too.
    if isinstance(kind, str) and '.' not in kind and 'type' not in TAKEN_OUT.get(where, ()):
        found = [call for _, call in _registered(kind)]
        elsewhere = set().union(*(getattr(call, 'looks_up', ()) for call in found))
        if not found:
            alike = get_close_matches(kind, sorted(_all_names()), n=3)
            hint = f'; did you mean {" or ".join(alike)}?' if alike else ''
            raise KeyError(f'{where}.type: nothing is registered as {kind!r}{hint}')
    for name in part.keys() - elsewhere:
        check_types(part[name], f'{where}.{name}' if where else str(name))


def parameter_names(call: Callable) -> set[str]:
    """Names by which a class or a function takes arguments.

    Where the ``__init__`` of a class takes ``**kwargs``, those of the next one in the order of
    inheritance are names too.
    """
    inits = [call]
    if inspect.isclass(call):
        own = [vars(owner).get('__init__') for owner in call.__mro__]
        inits = [init for init in own if inspect.isfunction(init)]
    names: set[str] = set()
    for init in inits:
        parameters = inspect.signature(init).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return names - {'self'}


def parameters_at(place: str, kind: Any) -> set[str]:
    """Names that a dict may have beside ``type``, by its place in the config and by its type."""
    names = set(TAKEN_OUT.get(place, ()))
    for call in CALLED_WITH.get(place, ()):
        names |= parameter_names(call)
    for registry, call in _registered(kind):
        names |= parameter_names(call) | TAKEN_OUT_BY.get(registry.name, set())
        names |= _handed_on(call)
    return names


def _handed_on(call: Callable) -> set[str]:
    """Names that ``**kwargs`` take to a class named by a default, as ``ema_type`` of EMAHook is."""
    parameters = inspect.signature(call).parameters.values()
    if all(p.kind is not p.VAR_KEYWORD for p in parameters):
        return set()
    named = (p.default for p in parameters if p.name.endswith('_type'))
    return {
        name for kind in named for _, found in _registered(kind) for name in parameter_names(found)
    }


def _with(node: Any, dotted: str, depth: int, value: Any, config: Config) -> Any:
    """``node``, at ``depth`` of the path, with the value at its end; lists are made anew."""
    path = dotted.split('.')
    if depth == len(path):
        before = _referred(node, config)
        is_number = isinstance(before, int | float) and not isinstance(before, bool)
        if is_number and isinstance(value, str) and not value.startswith('$'):
            raise ValueError(
                f'override {dotted!r}: it takes a number, such as {before}, got {value!r}'
            )
        return value
    node, part = _referred(node, config), path[depth]
    if isinstance(node, list | tuple):
        choices = {str(index) for index in range(len(node))}
        if part not in choices:
            raise _unknown(dotted, part, choices)
        items = list(node)
        items[int(part)] = _with(items[int(part)], dotted, depth + 1, value, config)
        return type(node)(items)
    if node is None:
        # A part that the config leaves out starts with its type.
        node, choices = ConfigDict(), {'type'}
    else:
        choices = set(node) if isinstance(node, dict) else set()
    if part not in choices:
        if isinstance(node, dict):
            choices |= parameters_at('.'.join(path[:depth]), _referred(node.get('type'), config))
        if part not in choices:
            raise _unknown(dotted, part, choices)
    node[part] = _with(node.get(part), dotted, depth + 1, value, config)
    return node


def _unknown(dotted: str, part: str, choices: Iterable[str]) -> KeyError:
    return KeyError(f'override {dotted!r}: {describe_unknown(part, choices)}')


def _referred(value: Any, config: Config) -> Any:
    """A copy of what a string ``'$name'`` stands for, and any other value as it is."""
    seen = set()
    while isinstance(value, str) and value.startswith('$') and value not in seen:
        seen.add(value)
        value = deepcopy(config.get(value[1:]))
    return value


def _registered(kind: Any) -> Iterator[tuple[Registry, Callable]]:
    """All that is registered under a name, with or without scope, and where."""
    if not isinstance(kind, str):
        return
    scope, name = Registry.split_scope_key(kind)
    for registry in _registries():
        if scope in (None, registry.scope):
            if isinstance(registry, PartRegistry):
                # Others of its parts import libraries that take longer than torch.
                found = registry.find(name)
            else:
                registry.import_from_location()
                found = registry.module_dict.get(name)
            if found is not None:
                yield registry, found


def _all_names() -> set[str]:
    """What everything is called that is registered or would be."""
    for registry in _registries():
        registry.import_from_location()
    return {name for registry in _registries() for name in registry.module_dict}


@functools.cache
def _registries() -> tuple[Registry, ...]:
    """Those of this toolbox and of MMEngine."""
    modules = (sen_toolbox.registry, mmengine.registry)
    found = [value for module in modules for value in vars(module).values()]
    return tuple(value for value in found if isinstance(value, Registry))
