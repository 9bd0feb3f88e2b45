"""Which files count as texts by their endings."""

#: File name endings (lower case) of files that hold one text each.
TEXT_SUFFIXES = frozenset({".txt", ".md", ".text"})
