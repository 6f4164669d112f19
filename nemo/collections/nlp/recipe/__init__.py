"""What a run does where nobody said: a text is looked at, decided on, prepared and trained on."""
