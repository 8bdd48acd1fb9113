//! The invariants by name, and those that are known not to hold yet.

/// An invariant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Everything that an AVAILABLE backup names is stored unchanged.
    Whole,
    /// A backup's segments are whole: a log of each of their fields, and every delete.
    WholeSegments,
    /// A backup has the rows of its collections' points in time.
    PointInTime,
    /// A collection in a backup had its name while the backup was made.
    Identity,
    /// Every selected collection and every selected name that existed throughout is in a backup, or the backup names it
    /// as missing with the true reason.
    Complete,
    /// A backup of everything doesn't fail, and leaves out no collection that can be captured.
    Unharmed,
    /// Sums and counts are right.
    Totals,
    /// `addedBytes` is the size of what was copied for the backup.
    Added,
    /// Each stored object belongs to the oldest living backup that references it.
    Owned,
    /// The meter agrees with a replay of every object's life.
    Billed,
    /// No worker makes progress once a newer fence was granted.
    Fence,
    /// A copy worker writes nothing once the lease of the worker it helps is over.
    LentFence,
    /// A status follows from the one before, and the final one from what happened.
    Status,
    /// A job ends, its lease is free, and the events come to an end.
    Rest,
    /// No data is left that no living backup needs.
    NoData,
    /// No data is left of a backup that was stopped when it was about to become AVAILABLE.
    NoDataOfPublishing,
    /// Nothing is left of a request that its sender had given up.
    NoLateComers,
    /// No document of a backup that is over is left.
    NoDocuments,
    /// No document of a living backup is left that its manifest doesn't name.
    OnlyNamedDocuments,
    /// A request that is delivered twice has one effect.
    Once,
    /// A restored collection has the rows of its backup's point in time, each once.
    Restored,
    /// A restore drops only what it made, and the previous collections when their time is over.
    Kept,
    /// A name stands for the collection that users expect, except during its swap.
    Names,
    /// An alias stands for the collection under the name that it stood for, unless a user moves it.
    Aliases,
    /// A role keeps its grants on a name unless a user revokes them.
    Grants,
    /// The scheduler has what the catalog says, and no run is forgotten.
    Scheduled,
    /// Users get a notice of everything that happened.
    Told,
    /// Nothing that a restore made for itself is left.
    NoLeftovers,
}

/// Rules that are known not to hold, with the reason: a breach is counted, and the history goes on. The line is removed
/// when the rule is mended.
const KNOWN: [Rule; 0] = [];

/// Whether this rule is known not to hold. `SIM_STRICT=1` ignores the list, and `SIM_KNOWN=Complete,Rest` adds these rules,
/// to find what they hide.
pub(crate) fn is_known(rule: Rule) -> bool {
    let is_named = |named: String| named.split(',').any(|name| name == format!("{rule:?}"));
    (KNOWN.contains(&rule) && std::env::var_os("SIM_STRICT").is_none())
        || std::env::var("SIM_KNOWN").is_ok_and(is_named)
}
