"""Abusive inputs, tried by the thousand: each has to end in a right answer or in an error of ours."""
