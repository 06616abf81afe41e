"""From a card to a fleet: what devices there are, and what each of them gets.

Start reading at `provisioning.inventory`: the one description of a fleet that everything else is made from.
"""
