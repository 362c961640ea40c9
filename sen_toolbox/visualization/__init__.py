"""Pictures of what a model finds, restores and learns."""

from sen_toolbox.visualization.drawing import stack_boards
from sen_toolbox.visualization.embedding_map import draw_embedding_map
from sen_toolbox.visualization.illustration_board import draw_illustration_board
from sen_toolbox.visualization.page import board_page
from sen_toolbox.visualization.retrieval_board import draw_retrieval_board
from sen_toolbox.visualization.word_board import draw_word_board

__all__ = [
    'board_page',
    'draw_embedding_map',
    'draw_illustration_board',
    'draw_retrieval_board',
    'draw_word_board',
    'stack_boards',
]
