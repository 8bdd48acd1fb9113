//! The backup job: its phases FLUSH, PLAN, COPY, VERIFY, PUBLISH and CLEAN.

mod accept;
mod assembly;
mod capture;
mod changes;
mod clean;
mod copy;
mod explain;
mod flush;
pub(crate) mod inspection;
mod job;
mod lines;
mod listing;
pub(crate) mod logs;
mod metadata;
mod moment;
pub(crate) mod object_lock;
mod page_copy;
mod patience;
mod plan;
mod publish;
mod recapture;
mod rounds;
mod segments;
mod source;
mod survey;
mod verify;
mod work;

pub use accept::{CreateBackup, create};
pub(crate) use accept::{create_with_writes, supported_version};
pub use job::run;
pub use page_copy::copy_page;
pub(crate) use source::check_source;
pub use source::{FlushedSegment, SourceData, data_missing, find_data};
