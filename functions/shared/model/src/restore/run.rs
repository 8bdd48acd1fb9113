//! The durable state of a running restore.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::{Ending, Progress, Time};

/// A running restore's durable state, from which another worker can continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreRun {
    /// When the first worker began.
    pub started_at: Time,
    /// The number of invocations that have worked on the restore.
    pub slices: u32,
    /// When the restore last made progress.
    pub advanced_at: Time,
    /// The invocation in which it last made progress.
    pub advanced_in: u32,
    /// The step to do next.
    pub phase: RestorePhase,
    /// The progress of the present phase.
    pub progress: Progress,
}

/// The steps of a restore. Each step processes the whole ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(tag = "phase", rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum RestorePhase {
    /// Write the ledger, then copy the snapshot's objects into the instance's own bucket, page by page.
    Stage {
        /// The first page that isn't copied; `None` until the ledger is written.
        next: Option<u32>,
    },
    /// Create the new collections beside the live ones.
    Build,
    /// Import the staged data and build the indexes.
    Import,
    /// Compare the new collections with the backup.
    Verify,
    /// Swap the new collections into the live ones' places.
    Swap,
    /// Remove the staged objects and, if the previous collections aren't to be kept, drop them.
    Clean,
    /// Undo: put the swapped collections back, remove what was built and staged, then end.
    #[strum(serialize = "CLEAN")]
    Undo(Ending),
    /// Put the previous collections back, because the caller asked to roll the completed restore back.
    #[serde(rename_all = "camelCase")]
    #[strum(serialize = "SWAP")]
    Rollback {
        /// When the restore was completed.
        completed_at: Time,
        /// The time until which the previous collections are kept if the rollback turns out to be impossible.
        until: Time,
        /// The present step.
        step: RollbackStep,
    },
}

/// The steps of a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RollbackStep {
    /// Check that every collection can be put back, and load it. Nothing is moved until all of them can be.
    Prepare,
    /// Put the collections back one after another. A rollback that has reached this step is carried to its end.
    PutBack,
}

impl RestorePhase {
    /// Whether a caller can still cancel the restore: no collection has been swapped.
    pub fn can_be_cancelled(&self) -> bool {
        matches!(self, Self::Stage { .. } | Self::Build | Self::Import | Self::Verify)
    }

    /// The phase's name in the API. An undo is reported as CLEAN, a rollback as SWAP.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

impl RestoreRun {
    /// A run that begins now.
    pub fn begin(now: Time) -> Self {
        Self::resume(now, RestorePhase::Stage { next: None })
    }

    /// A run that begins now with this phase.
    pub fn resume(now: Time, phase: RestorePhase) -> Self {
        Self { started_at: now, slices: 0, advanced_at: now, advanced_in: 0, phase, progress: Progress::default() }
    }

    /// Whether the run has made no progress for longer than `limit`.
    pub fn is_stalled(&self, now: Time, limit: TimeDelta) -> bool {
        now - self.advanced_at > limit
    }
}
