"""Networks that turn images into features, a file each; each loads TensorFlow when first used."""
