"""A module with two applications."""

from fsqueue import FSQueue

red = FSQueue("red")
blue = FSQueue("blue")
