"""The data set of `onebox demo`, drawn on the spot: eight kinds of object on cluttered grounds, nothing downloaded.
`write_demo_data` gives a folder any reader of CSV layouts understands; `draw_scene` gives one picture and its box.
Needs numpy and Pillow, never torch, and never touches a folder that holds anything.
"""

from __future__ import annotations

from onebox.demo_data.scenes import Difficulty, Scene, compose_scene, draw_scene
from onebox.demo_data.shapes import CLASS_NAMES
from onebox.demo_data.write import write_demo_data

__all__ = ["CLASS_NAMES", "Difficulty", "Scene", "compose_scene", "draw_scene", "write_demo_data"]
