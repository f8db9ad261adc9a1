"""fettle: a kernel autotuning service. The public API; everything is imported on first use (PEP 562)."""
