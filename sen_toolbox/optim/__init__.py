"""What MMEngine's optimiser wrappers lack: rules by parameter name, and autocast on any device."""

from .autocast import AutocastOptimWrapper
from .rules import RuleOptimWrapperConstructor

__all__ = ['AutocastOptimWrapper', 'RuleOptimWrapperConstructor']
