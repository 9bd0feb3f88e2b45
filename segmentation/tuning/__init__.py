"""Choose a recipe's settings, and say what they will give, from labelled images alone: no validation set.

One image (or one group of images) at a time is left out of the memory bank and segmented with the
rest; features are computed once. ``docs/tuning.md`` says what is assumed.
"""
