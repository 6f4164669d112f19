"""New entries for the vocabulary of a trained BERT."""
