"""Text-to-image person retrieval: registered parts that configs assemble into methods."""

__version__ = '0.1.0'
