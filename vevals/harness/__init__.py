"""lm-eval, both ways: its tasks on any vevals model, and this engine as a model inside lm-eval."""
