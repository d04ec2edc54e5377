"""Trained models at work: loading, hidden states, embeddings, predictions."""
