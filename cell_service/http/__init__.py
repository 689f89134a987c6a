"""The HTTP front that all services have: a port, requests as they come in, answers as they go out."""
