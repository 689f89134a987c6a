"""Hosts without a hypervisor, that behave like hosts: for demonstrations, scale runs and fault tests.

A simulated host has real state in a file of its own (`state.json`): its guests, their power states and disks survive
when the agent is killed. It has a capacity and refuses what exceeds it, takes time for what it does, checks images,
stores console logs, and fails as configured: see `faults`.
"""

from compute_host.virt.simulated.driver import SimulatedDriver

__all__ = ["SimulatedDriver"]
