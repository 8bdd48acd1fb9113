//! The restore job: STAGE, BUILD, IMPORT, VERIFY, SWAP, CLEAN, each in a module of its own, and the ways back.
//!
//! Until SWAP no live collection is touched. From SWAP on, what each collection's renames are about to do is in the
//! ledger before they are done, with the ids of what they move: whoever comes next sees from the ids what was done.

mod accept;
mod build;
mod clean;
#[cfg(test)]
mod fixture;
mod give_up;
mod grants;
mod groups;
mod import;
mod job;
mod ledger;
mod names;
mod poll;
mod reasons;
mod requests;
mod shared;
mod stage;
mod swap;
mod undo;
mod verify;
mod witnesses;
mod work;

pub use accept::{BackupSelector, CreateRestore, DamagedBackup, create};
pub use job::run;
pub use requests::{cancel, rollback};
