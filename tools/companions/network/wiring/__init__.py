"""The network companion's data plane: what the records say, made so in network namespaces."""
