"""Fine-tuning a BERT on labeled words, texts or pairs of texts."""
