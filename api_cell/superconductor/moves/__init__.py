"""Moves of instances to another host, of the same cell or of another, as lists of recorded steps.

`steps`, `back` and `ending` are what is done, `phases` say in which order for which kind, `claims` is the part of
placement, `rows` that of the cells' tables, `errands` that of the hosts; `runner` takes moves and brings them forward.
docs/flows.md has the order and who goes on.
"""
