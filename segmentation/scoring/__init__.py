"""How good masks are: metrics, the evaluation of a data set, a page about it."""
