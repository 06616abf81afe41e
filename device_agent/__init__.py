"""The device agent: finds neighbours, trades models with them, checks the work of others, and gets paid.

Start reading at `device_agent.agent.Agent`; the protocol itself is the table in `device_agent.encounter`.
"""
