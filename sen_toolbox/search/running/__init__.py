"""How a query finds the server of its index on this machine, and asks it in place of a model."""
