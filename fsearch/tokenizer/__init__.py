"""Text to token ids and back: the World vocabulary, bytes, and characters. No torch."""

from .small import Bytes, Characters
from .tokenizer import END, Tokenizer
from .vocabulary import VocabularyError
from .world import World, world

__all__ = ["END", "Bytes", "Characters", "Tokenizer", "VocabularyError", "World", "world"]
