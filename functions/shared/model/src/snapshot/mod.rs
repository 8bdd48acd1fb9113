//! The contents of a snapshot: the manifest, its pages, and everything needed to rebuild a collection.

mod capture;
mod completeness;
mod manifest;
mod object;
mod record;
mod rows;
mod segment;
mod skip;

pub use capture::{
    CollectionCapture, DatabaseCapture, FieldCapture, FieldPresence, IndexCapture, Loaded, PartitionCapture,
    PrimaryKey, TIME_TO_LIVE,
};
pub use completeness::{Completeness, LeftOut, LeftOutCause, Principal, Visibility};
pub use manifest::{CaptureMethod, Manifest, PageRef, SourceStorage};
pub use object::{ObjectEntry, ObjectKey, Origin, SHARDS};
pub use record::{Snapshot, Totals};
pub use rows::{CountKind, RowCount};
pub use segment::{SegmentCapture, SegmentLevel, StorageVersion, Written};
