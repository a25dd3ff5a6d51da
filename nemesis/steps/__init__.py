"""The steps of a choreography: what a script can do on a lab, and what it can wait for."""
