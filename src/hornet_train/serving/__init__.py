"""A trained model behind HTTP: a page for people, `POST /predict` for programs."""
