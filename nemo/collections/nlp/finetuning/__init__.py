"""Fine-tuning a BERT on labelled words, texts or pairs of texts."""
