"""The baseline U-T&T: data, model, training. May import flair_ingestion and flair_scoring."""
