"""Unsafe configurations of others' stacks and of our own tests: what they lead to, and what shows it.

A reader for each format makes the same small facts of a file; a rule looks at facts alone and has a source
or a run of ours behind it. What a file does not say is assumed in words, and never held against it as an
error.
"""
