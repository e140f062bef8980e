r"""The gate: fail a build when a model became slower, larger or hungrier than it may be.

```
 budget.toml ─┐                      ┌─ launch ─┐  a process of its own each: open, warm up, time in blocks
 --budget ────┼─▶ checks ──▶ round ──┼─ launch ─┼─▶ figures ──▶ each check's outcome ──▶ exit code, reports
 baseline ────┘      ▲               └─ launch ─┘                     │
                     └──── what does not pass is measured again ◀─────┘   (up to `confirm` more rounds)
```
"""
