"""What `onebox label` knows, without the page: the label file (store.py, rows.py), the folder's pictures (pictures.py,
lock.py), the model's proposals (proposals.py) and which picture to label next (queue.py), trainings and checks in the
background (training.py, doubts.py), and one person's work with all of it (session.py). Takes a folder; changes nothing
in it but its own label file and `.onebox/`, and adds pictures only under new names.
"""
