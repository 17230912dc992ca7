"""The main job on a small network and real images, both part of the package."""
