"""What the API answers: the shapes that clients read, and how what is known becomes one of them. Pure."""
