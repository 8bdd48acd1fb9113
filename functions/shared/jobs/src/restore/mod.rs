//! The restore job: its phases STAGE, BUILD, IMPORT, VERIFY, SWAP and CLEAN, a module for each, and its undoing.
//!
//! No live collection is touched before SWAP. In SWAP, each collection's renames are written to the ledger before they
//! are done, with the IDs of the collections that they move. From the IDs, the next worker sees which renames were
//! done.

mod accept;
mod build;
mod clean;
mod evidence;
#[cfg(test)]
mod fixture;
mod give_up;
mod grants;
mod groups;
mod import;
mod job;
mod ledger;
mod messages;
mod names;
mod poll;
mod requests;
mod shared;
mod stage;
mod swap;
mod undo;
mod verify;
mod work;

pub use accept::{BackupSelector, CreateRestore, DamagedBackup, create};
pub use job::run;
pub use requests::{cancel, rollback};
