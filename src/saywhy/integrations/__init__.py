"""Maps in the tools around a model: loggers, Lightning, FiftyOne, Gradio. Each module needs its own package."""
