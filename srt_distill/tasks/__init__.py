"""Tasks that features are judged on."""
