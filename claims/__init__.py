"""Every claim of the papers as a runnable experiment: it prints a table with seeds, confidence intervals and a verdict.

python -m claims.language        # questions and captions
"""
