"""The arrows from data to artifact, each a step of the run store that is computed once.

    inputs -> train -> prune -> (convert) export -> Artifact

This is the training side. What judges the result (bench, attacks, audit) starts from the Artifact.
"""
