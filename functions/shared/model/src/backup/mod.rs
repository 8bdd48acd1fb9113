//! A backup and its states.

mod pages;
mod phases;
mod record;
mod run;

pub use pages::PageSet;
pub use phases::{
    CaptureTrouble, Copied, Copying, Flushing, Pass, Planning, Publishing, Unexplained, Unsettled, Verifying,
};
pub use record::{Backup, BackupKind, BackupState, BackupStatus, Verification};
pub use run::{BackupPhase, BackupRun, Reuse};
