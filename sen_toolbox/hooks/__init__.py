"""Hooks that MMEngine lacks."""

from .dataset_report import DatasetReportHook
from .strict_load import StrictLoadHook

__all__ = ['DatasetReportHook', 'StrictLoadHook']
