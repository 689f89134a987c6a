"""The nouns all packages share, as frozen values: instances, operations, request specs, services, nodes."""
