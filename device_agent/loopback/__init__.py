"""The loopback world: real agents, a real gateway and a real chain, with radios and links in memory and time that jumps.

Part of the product: it is how a field trial is rehearsed, and how CI runs the agents.
"""
