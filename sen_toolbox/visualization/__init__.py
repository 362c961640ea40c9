"""Pictures of what a model finds and restores."""

from sen_toolbox.visualization.drawing import stack_boards
from sen_toolbox.visualization.restoration_board import draw_restoration_board
from sen_toolbox.visualization.retrieval_board import draw_retrieval_board

__all__ = ['draw_restoration_board', 'draw_retrieval_board', 'stack_boards']
