"""Every claim of the papers as a runnable experiment: it prints a table with seeds, confidence intervals and a verdict.

python -m claims.vision          # classifiers: Grad-CAM and RSI-Grad-CAM, all sections below on one page
python -m claims.localized       # boxes; pointed, ablated, faithful, told_apart, diagnosis, saturation likewise
python -m claims.language        # questions and captions
python -m claims.trust           # what a verdict of `saywhy check` is worth
"""
