"""Words to vectors: tokens, punctuation, a BERT's word vectors."""
