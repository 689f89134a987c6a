"""Hosts without a hypervisor, that behave like hosts: for demonstrations, scale runs and fault tests.

A simulated host has real state in a file of its own (`state.json`): its guests, their power states and disks live on
when the agent is killed. It has a capacity and refuses what exceeds it, takes time for what it does, checks images,
keeps console logs, and fails when told to: see `faults`.
"""

from compute_host.virt.simulated.driver import SimulatedDriver

__all__ = ["SimulatedDriver"]
