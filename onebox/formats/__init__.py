"""Annotation layouts: one file per layout, one row per layout in `onebox.formats.table`. A reader takes the tree of
files and gives raw records; `onebox.formats.assembly` alone decides which of them become samples. Nothing here opens
a file whose name came out of an annotation: names are only looked up among the files that a scan of the folder found.
"""
