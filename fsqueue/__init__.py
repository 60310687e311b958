"""Distribute a function with one decorator and nothing but a shared directory."""
