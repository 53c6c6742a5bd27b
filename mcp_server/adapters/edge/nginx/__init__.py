"""nginx with a generated file, tested before every reload."""
