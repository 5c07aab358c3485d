"""Models on the Hugging Face hub: fetched by `hf://OWNER/NAME`, described by a card, given to others."""
