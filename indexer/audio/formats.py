"""Which files count as recordings by their endings."""

#: File name endings (lower case) that count as recordings when a folder is listed.
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".aiff", ".aif"})
