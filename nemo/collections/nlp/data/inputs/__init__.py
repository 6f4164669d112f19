"""Text of any kind -> documents: finding the files, reading them, and splitting them into pieces."""

from nemo.collections.nlp.data.inputs.options import AUTO, TextOptions
from nemo.collections.nlp.data.inputs.pieces import Piece, PieceReader, pieces_of, read_documents
from nemo.collections.nlp.data.inputs.sources import Source, check_unchanged, content_hash, sources_of

__all__ = [
    "AUTO",
    "Piece",
    "PieceReader",
    "Source",
    "TextOptions",
    "check_unchanged",
    "content_hash",
    "pieces_of",
    "read_documents",
    "sources_of",
]
