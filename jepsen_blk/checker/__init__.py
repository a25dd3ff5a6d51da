"""From a history to a verdict: exact, and able to say which operations contradict each other.

Knows no lab.
"""
