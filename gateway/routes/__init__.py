"""What can be asked of a gateway over HTTP, by subject: each module makes one blueprint."""
