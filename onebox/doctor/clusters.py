"""Findings about pairs put together: pictures that are copies of one another are one thing to look at, however many
pairs they make. Takes findings of one code; gives groups of them. Opens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from onebox.doctor.findings import Finding


def clustered(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings linked by a picture or by one of their others stand together, in their own order; a finding that speaks
    of one picture only, or of none, stands alone. Clusters come in the order of their first findings."""
    cluster_of: dict[str, int] = {}
    clusters: dict[int, list[int]] = {}
    members: dict[int, set[str]] = {}
    for at, finding in enumerate(findings):
        paths = {finding.picture, *finding.others} if finding.picture and finding.others else set[str]()
        met = sorted({cluster_of[path] for path in paths if path in cluster_of})
        home = met[0] if met else at
        clusters.setdefault(home, []).append(at)
        members.setdefault(home, set()).update(paths)
        for other in met[1:]:  # this finding links what were two clusters
            clusters[home] += clusters.pop(other)
            members[home] |= members.pop(other)
        for path in members[home]:
            cluster_of[path] = home
    ordered = sorted((sorted(some) for some in clusters.values()), key=lambda some: some[0])
    return [[findings[at] for at in some] for some in ordered]
