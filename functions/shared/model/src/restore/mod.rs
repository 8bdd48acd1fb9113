//! A restore, its ledger of collections, and the names of the collections that it creates.

mod imports;
mod ledger;
mod names;
mod record;
mod run;

pub use imports::{ImportJob, ImportState, Imports};
pub use ledger::{CollectionRestore, CollectionStage, CollectionState, Swap};
pub use names::{is_restore_name, previous_name, rebuilt_name};
pub use record::{OnError, Previous, Reload, Restore, RestoreMode, RestoreState, RestoreStatus};
pub use run::{RestorePhase, RestoreRun, RollbackStep};
