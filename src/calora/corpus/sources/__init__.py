"""Published data sets read as records, from the hub or from a folder alike."""

from calora.corpus.sources.registry import Source, find_source, source, sources

__all__ = ["Source", "find_source", "source", "sources"]
