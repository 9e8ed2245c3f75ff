"""Names for class ids that nobody reads: WordNet's `n01440764`, Open Images' `/m/0cmf2`. Takes a data set's own list of
ids and names; gives one short name per id. Never lets two ids become one class because their names are alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from onebox.formats.records import clean_label
from onebox.formats.tree import Tree, decode, read_bytes


def read_synsets(tree: Tree, relative: str) -> dict[str, str]:
    """id -> first name, in the order of the file: `n01443537<tab or space>goldfish, Carassius auratus`."""
    names: dict[str, str] = {}
    for line in decode(read_bytes(tree, relative))[0].splitlines():
        parts = line.split(None, 1)
        if parts:
            names[parts[0]] = clean_label(parts[1].partition(",")[0]) if len(parts) == 2 else ""
    return names


def distinct_names(names: Mapping[str, str]) -> dict[str, str]:
    """The same, the id added to every name that several ids bear ("crane" is a bird and a machine); the id alone where
    there is no name."""
    bearers = Counter(names.values())
    return {key: (name if bearers[name] == 1 else f"{name} ({key})") if name else key for key, name in names.items()}
