"""The share companion: Shared File Systems v2."""
