//! The invariants by name, and those of which it is known that they don't hold yet.

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// What a backup that is AVAILABLE names is stored, and is what it names.
    Whole,
    /// A backup's segments are whole: a log of each of their fields, and every delete.
    WholeSegments,
    /// A backup brings back the rows of its collections' points in time.
    PointInTime,
    /// What a backup has under a name is a collection that had that name while the backup was made.
    Identity,
    /// Every selected collection that existed all the while is in a backup, and so is what had a selected name all the
    /// while; or the backup says by name what it lacks, and why, which is so.
    Complete,
    /// A backup of whatever there is doesn't fail, or do without a collection, that can be captured.
    Unharmed,
    /// Sums and counts are right.
    Totals,
    /// `addedBytes` is what was copied for the backup.
    Added,
    /// What backups own is what is stored, each object with the oldest living backup that references it.
    Owned,
    /// What is metered is what a replay of every object's life bills.
    Billed,
    /// Nobody makes progress once a newer fence was granted.
    Fence,
    /// A copy worker writes nothing once the lease of the worker that it helps is over.
    LentFence,
    /// A status follows from the one before, and the last one from what happened.
    Status,
    /// A job ends, its lease is free, and the events come to an end.
    Rest,
    /// No data is left that no living backup needs.
    NoData,
    /// No data is left of a backup that was stopped when it was about to become AVAILABLE.
    NoDataOfPublishing,
    /// Nothing is left that a request wrote which its sender had given up.
    NoLateComers,
    /// No document of a backup that is over is left.
    NoDocuments,
    /// No document of a living backup is left that its manifest doesn't name.
    OnlyNamedDocuments,
    /// A request that is delivered twice has one effect.
    Once,
    /// A restored collection has the rows of its backup's point in time, each once.
    Restored,
    /// Nothing is dropped but what the restore made, and what was live before it when its time is over.
    Kept,
    /// A name stands for what its users take it to stand for, but for the moments of a swap of it.
    Names,
    /// An alias stands for what has the name of what it stood for, unless somebody moves it.
    Aliases,
    /// What roles may do with a name they may do with it, unless somebody revokes it.
    Grants,
    /// The scheduler has what the catalog says, and no run is forgotten.
    Scheduled,
    /// Users are told what happened.
    Told,
    /// Nothing that a restore made for itself is left of it.
    NoLeftovers,
}

/// Rules that are known not to hold, and why: a breach is counted, and the history goes on. When one is mended, its line
/// goes.
const KNOWN: [Rule; 0] = [];

/// Whether it is known that this rule doesn't hold; `SIM_STRICT=1` knows of none, and `SIM_KNOWN=Complete,Rest` of these, so
/// that what is behind them comes to light.
pub(crate) fn is_known(rule: Rule) -> bool {
    let is_named = |named: String| named.split(',').any(|name| name == format!("{rule:?}"));
    (KNOWN.contains(&rule) && std::env::var_os("SIM_STRICT").is_none())
        || std::env::var("SIM_KNOWN").is_ok_and(is_named)
}
