"""Moves of instances to another host, of the same cell or of another: one file a kind, each a list of recorded steps.

`cold_migration`, `resize`, `live_migration`, `evacuation`, `unshelving` say what a kind does on its way; `waiting`,
`confirm`, `revert` what follows a resize; `another_host` and `clean_up` what all share. `recipe` says what steps are,
`recipes` which a move follows now, and `runner` claims moves and brings them forward. The steps' parts: `claims` in
placement, `rows` in the cells' tables, `host_tasks` on hosts, `ownership` in the mapping, `secrets`.
docs/flows.md has the order and which process goes on after a kill.
"""
