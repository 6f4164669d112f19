"""Text of any kind -> documents: finding the files, reading them, and splitting them into sections."""

from nemo.collections.nlp.data.inputs.options import AUTO, TextOptions
from nemo.collections.nlp.data.inputs.sections import Section, SectionReader, read_documents, sections_of
from nemo.collections.nlp.data.inputs.sources import Source, check_unchanged, content_hash, sources_of

__all__ = [
    "AUTO",
    "Section",
    "SectionReader",
    "Source",
    "TextOptions",
    "check_unchanged",
    "content_hash",
    "read_documents",
    "sections_of",
    "sources_of",
]
