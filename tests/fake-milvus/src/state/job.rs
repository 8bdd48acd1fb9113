//! An import job, and when it reports that it is over.

use std::{collections::BTreeMap, time::Instant};

use milvus::proto::common::ImportState;

use crate::ImportPace;

/// An import job: it is done at once and reports that later.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    pub(crate) collection: i64,
    pub(crate) outcome: Result<u64, String>,
    pub(crate) when: When,
}

/// When a job reports that it is over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    /// After this many questions.
    Asked(u32),
    /// At its own time.
    Timed { begins: Instant, ends: Instant },
}

impl Import {
    /// The job's present state.
    pub(crate) fn ask(&mut self) -> ImportState {
        const STEPS: [ImportState; 3] =
            [ImportState::ImportPersisted, ImportState::ImportStarted, ImportState::ImportPending];
        let left = match &mut self.when {
            When::Asked(asks) => {
                let left = *asks;
                *asks = left.saturating_sub(1);
                left
            }
            When::Timed { begins, .. } if *begins > Instant::now() => 3,
            When::Timed { .. } => u32::from(self.is_unfinished()) * 2,
        };
        match (left, &self.outcome) {
            (0, Ok(_)) => ImportState::ImportCompleted,
            (0, Err(_)) => ImportState::ImportFailed,
            (left, _) => STEPS[(left as usize - 1).min(2)],
        }
    }

    pub(crate) fn is_unfinished(&self) -> bool {
        match self.when {
            When::Asked(asks) => asks > 0,
            When::Timed { ends, .. } => ends > Instant::now(),
        }
    }
}

/// When a new job begins and ends: it begins as soon as one of the places is free.
pub(crate) fn next(pace: ImportPace, imports: &BTreeMap<i64, Import>) -> When {
    let now = Instant::now();
    let timed = imports.values().filter_map(|import| match import.when {
        When::Timed { ends, .. } if ends > now => Some(ends),
        _ => None,
    });
    let mut ends: Vec<Instant> = timed.collect();
    ends.sort();
    // The job that ends last in a place began when the job before it ended.
    let begins = ends.len().checked_sub(pace.side_by_side).map_or(now, |place| ends[place]);
    When::Timed { begins, ends: begins + pace.job }
}
