"""Every claim of the papers as a runnable experiment: it prints a table with seeds, confidence intervals and a verdict.

python -m research.claims.vision          # classifiers: Grad-CAM and RSI-Grad-CAM, all sections below on one page
python -m research.claims.localization       # boxes; pointed, ablated, faithful, told_apart, … likewise
python -m research.claims.language        # questions and captions
python -m research.claims.trust           # what a verdict of `saywhy check` is worth
"""
