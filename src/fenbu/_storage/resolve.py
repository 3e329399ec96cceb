"""A batch without contradictions, so that the order in which a database writes its parts does not matter.

What is left: no call in `deleted` is inserted, updated or gets entries; a call is updated, or is rewritten
once; an entity is written once. One exception: what `rewritten` replaces goes before all else.
"""

from __future__ import annotations

from fenbu._core.batch import CommitBatch


def resolve(batch: CommitBatch) -> CommitBatch:
    """The same for whoever reads the database afterwards. The rows themselves are not copied."""
    inserted, entries = batch.inserted, batch.entries
    updated = {each.id: each for each in batch.updated}
    rewritten = {each.id: each for each in batch.rewritten}
    for id_ in rewritten.keys() & updated.keys():
        del updated[id_]
    if batch.deleted:
        deleted = set(batch.deleted)
        inserted = [each for each in inserted if each.id not in deleted]
        entries = [each for each in entries if each.id not in deleted]
        for rows in (updated, rewritten):
            for id_ in deleted & rows.keys():
                del rows[id_]
    entities = {(each.entity, each.key): each for each in batch.entities}
    return CommitBatch(
        inserted=inserted,
        updated=list(updated.values()),
        deleted=batch.deleted,
        entries=entries,
        rewritten=list(rewritten.values()),
        entities=list(entities.values()),
        entities_deleted=[each for each in batch.entities_deleted if each not in entities],
        fields=batch.fields,
        fields_deleted=batch.fields_deleted,
        inbox=batch.inbox,
        inbox_deleted=batch.inbox_deleted,
        chunks=batch.chunks,
        chunks_deleted=batch.chunks_deleted,
        step_results_deleted=batch.step_results_deleted,
    )
