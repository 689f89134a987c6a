"""The agent of one host and its hypervisor drivers."""
