//! How a server behaves, and what a lying one misreports.

use chrono::TimeDelta;
use milvault_harness::Random;

/// How a server behaves where servers differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// How long the files of dropped segments stay.
    pub(crate) gc_tolerance: TimeDelta,
    /// Whether deletes are kept in segments of their own until they are compacted.
    pub(crate) has_l0: bool,
    /// Whether the server lists the files of segments.
    pub(crate) tells_files: bool,
    /// Whether garbage collection can be held.
    pub(crate) can_hold: bool,
    /// The most milliseconds until a flushed segment is replaced by a sorted one; `None` if it isn't.
    pub(crate) sorts_within: Option<u64>,
    /// Whether a flush names segments that were flushed earlier.
    pub(crate) names_flushed: bool,
    /// How many milliseconds a segment that was sealed by policy is missing from flushes.
    pub(crate) hides_sealed_for: u64,
    /// Whether there is a collection that can't be described.
    pub(crate) is_haunted: bool,
    /// Whether the user sees every collection.
    pub(crate) shows_all: bool,
    /// Whether fields can be added to collections.
    pub(crate) adds_fields: bool,
    /// Whether descriptions keep the aliases that the collection had when it was first described under its name.
    pub(crate) caches_aliases: bool,
    /// Whether grants follow a collection when it is renamed, and end when it is dropped.
    pub(crate) moves_grants: bool,
    /// The number of roles.
    pub(crate) roles: usize,
    /// Whether the user may list roles.
    pub(crate) tells_roles: bool,
    /// Whether grants to the last of the roles are refused.
    pub(crate) refuses_grants: bool,
}

impl Habits {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let has_l0 = random.permille(400);
        Self {
            gc_tolerance: TimeDelta::seconds(*random.pick(&[3 * 3600, 120, 10]).unwrap_or(&0)),
            has_l0,
            tells_files: random.permille(500),
            can_hold: random.permille(300),
            // Sorting and late naming came with 2.5 and 2.6.
            sorts_within: if has_l0 { *random.pick(&[None, Some(300), Some(4_000)]).unwrap_or(&None) } else { None },
            names_flushed: !has_l0 || random.permille(500),
            hides_sealed_for: if has_l0 { *random.pick(&[0, 2_000, 10_000]).unwrap_or(&0) } else { 0 },
            is_haunted: random.permille(40),
            shows_all: !random.permille(40),
            // The following came with 2.6.
            adds_fields: has_l0 && random.permille(600),
            caches_aliases: has_l0 && random.permille(500),
            moves_grants: has_l0 && random.permille(600),
            roles: *random.pick(&[0, 1, 2]).unwrap_or(&0),
            tells_roles: !random.permille(60),
            refuses_grants: random.permille(100),
        }
    }
}

/// A false answer of a server or of its adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Every collection of a name gets the id that was first listed with that name.
    IdsByName,
    /// Segments that no flush has named are missing from listings.
    OnlyNamedSegments,
    /// Some collections are missing from the list, and the user is said to see all.
    PartForEverything,
    /// Some files are missing from listings of the bucket.
    LostFiles,
    /// A collection's aliases are read from its description.
    DescribedAliases,
    /// Fields are said to have the wanted ids, though they got them by position.
    FieldsByPlace,
    /// Every grant is said to be made.
    Grants,
    /// Every import is said to have brought its rows.
    Imports,
    /// Every import is said to be completed without a row.
    NoImports,
}
