"""Sweeps: a grid over the options of the configuration, one measured artifact for each point, and a choice among them.

    plan (TOML) -> tasks (a graph; what points share is one task) -> engine -> timings -> Pareto front -> choice

Every task's result is in the run store, so a sweep that was interrupted or killed goes on where it was.
"""
