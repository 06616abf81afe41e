"""The loopback world: real agents, a real gateway and a real chain, radios and links in memory, time that jumps.

Part of the product: it is how a field trial is rehearsed, and how CI runs the agents.
"""
