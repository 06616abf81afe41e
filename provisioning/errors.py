"""What can go wrong while provisioning.

ProvisioningError
└── InventoryError       the fleet's description cannot be used; exit status 2
"""


class ProvisioningError(Exception):
    """Any fault of the provisioning tools."""


class InventoryError(ProvisioningError):
    """Not there, not TOML, or impossible; the message names file, key and value."""
