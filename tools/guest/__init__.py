"""A guest of our own, made from Debian packages: small, and it prints on its console what it found."""
