"""The protocol: what runs next, what is pruned, what may be claimed. Pure functions of rows; no torch."""
