"""What may be tried: search spaces over strategies, composed from small functions of an Optuna trial. Imports neither Ray nor PyTorch."""

from search_spaces.pieces import Limits, Overrides, Piece
from search_spaces.spaces import SPACES, Space

__all__ = ["SPACES", "Limits", "Overrides", "Piece", "Space"]
