"""Exhaustive exploration of a small scope: every order of events of the simulator's own parts.

A run shows one interleaving, a campaign many; this shows all of them, for a scope of two writes to one block,
one move of the guest and one loss. What decides is the very code of the simulator and of the real target: the
arbiter, the frontends, the network and the handoff policies. What is the explorer's own is the loop that they
run in, which lets not the clock but the search say which timer comes next.
"""
