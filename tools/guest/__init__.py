"""A guest of our own, made from Debian packages: small, and it says on its console what it found."""
