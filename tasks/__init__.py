"""The shell around one stage each: Prefect, W&B, BentoML and Great Expectations meet the core here."""
