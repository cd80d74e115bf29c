"""How a local causal model is run: plan (pure) and files (pure), then network, score, decode and gguf (torch)."""
