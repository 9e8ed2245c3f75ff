"""What onebox shows in a browser and answers over HTTP: `serve` (one model for programs and people) and `label`. The
modules that both share stand on their own: `problems`, `guard`, `assets`, `uploads`, `server`. Nothing here imports
torch; fastapi and uvicorn belong to the `serve` extra.
"""
