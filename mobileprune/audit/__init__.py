"""The judge: statistics of attack scores, paired comparisons, the three-valued verdict. Sees arrays only."""
