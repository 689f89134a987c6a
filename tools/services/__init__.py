"""Every service composed from its configuration files: what each process of an installation runs."""
