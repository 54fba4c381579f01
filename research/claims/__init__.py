"""The claims of the papers as runnable experiments, each with a table, confidence intervals and a verdict.

python -m research.claims.vision            # classifiers: Grad-CAM and RSI-Grad-CAM, all sections on one page
python -m research.claims.localization      # one section: boxes; likewise pointing, ablation, faithfulness, …
python -m research.claims.language          # questions and captions
python -m research.claims.diverse_captions  # diverse beam search
python -m research.claims.ucam              # U-CAM: uncertainty and attention
python -m research.claims.hint              # HINT and its controls: questions and captions about regions
python -m research.claims.fix               # saywhy.fix: every method, on classifiers that have learnt a shortcut
python -m research.claims.counting          # counting everyday objects: all counters, on drawn and real images
python -m research.claims.trust             # accuracy of the verdict of `saywhy check`
"""
