"""From a run that failed to the smallest test that still does."""
