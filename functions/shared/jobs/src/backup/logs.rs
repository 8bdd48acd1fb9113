//! Keys of the logs that hold a collection's data in the source.

use milvault_model::ObjectKey;
use milvault_ports::InsertLog;

/// The kinds of logs that hold a collection's data, sorted by name.
pub(super) const KINDS: [&str; 2] = [DELTA, INSERT];
/// Logs of deletes.
pub(crate) const DELTA: &str = "delta_log";
/// Logs of rows.
pub(crate) const INSERT: &str = "insert_log";

/// A log, read from its key.
pub(crate) enum Log {
    Delta(i64),
    Insert(InsertLog),
}

/// Returns the segment and the log of a key: `{partition}/{segment}/{log}` for deletes,
/// `{partition}/{segment}/{folder}/{log}` for rows.
pub(crate) fn log_of(key: &ObjectKey, kind: &str) -> Option<(i64, Log)> {
    let mut numbers = key.below(kind)?.split('/').map(|part| part.parse::<i64>().ok());
    let mut next = || numbers.next().flatten();
    let (_, segment, first, second) = (next()?, next()?, next()?, next());
    match (kind, second) {
        (DELTA, None) => Some((segment, Log::Delta(first))),
        (INSERT, Some(log)) => Some((segment, Log::Insert(InsertLog { folder: first, log }))),
        _ => None,
    }
}
