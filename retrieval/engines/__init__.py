"""Engines that hold vectors and find the nearest: one file each, told apart by what they can do."""
