"""Segmentation over HTTP: one index, held open, asked and changed by many (extra ``serve``)."""
