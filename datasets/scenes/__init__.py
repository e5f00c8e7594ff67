"""Generated RGB + point cloud scenes, for demonstrations and tests: shapes, defects, what a camera sees, files."""

from datasets.scenes.scene import Scene, render_scene, scene_camera

__all__ = ["Scene", "render_scene", "scene_camera"]
