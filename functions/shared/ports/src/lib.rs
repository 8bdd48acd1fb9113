//! The services that the jobs need, as traits: adapters implement them, and tests replace them.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod background;
mod catalog;
mod copying;
mod held_commit;
mod milvus;
mod objects;
mod page;
mod world;

pub use background::{BackgroundEvent, SCHEDULED_TIME, Scheduled, Verify};
pub use catalog::{
    Catalog, CatalogError, DueEntry, DueItem, Expect, Idempotency, Lease, LeasePurpose, Versioned, Write,
};
pub use copying::{CopyEnd, CopyReport, CopyTask, CopyWorkers};
pub use held_commit::{HeldError, Tenure, commit_held};
pub use milvus::{
    CollectionDescription, Connector, FlushResult, GarbageHold, ImportData, ImportRequest, ImportStatus, ImportTasks,
    InsertLog, Milvus, MilvusError, OnRateLimit, Pace, Segment, SegmentFiles,
};
pub use objects::{
    Bucket, CopyOutcome, CopyRequest, LockMode, Locking, ObjectMeta, Objects, ObjectsError, PutMode, PutOutcome,
    object_pages, objects,
};
pub use page::{Page, PageRequest, items, pages};
pub use world::{
    Clock, Continuation, ContinuationError, Deadline, EVENTS_AT_ONCE, Events, EventsError, IdSource, Schedules,
    SchedulesError,
};
