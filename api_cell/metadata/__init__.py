"""The metadata service of a whole cloud: it finds the cell of the guest that sends a request."""
