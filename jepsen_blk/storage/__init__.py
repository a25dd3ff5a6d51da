"""The shared storage under test: conflict models, the policy target, the holding proxy, stock servers."""
