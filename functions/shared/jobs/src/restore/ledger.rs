//! A restore's ledger, with a line for each collection, and the concurrent work on its lines.

use std::pin::pin;

use futures::{
    Stream, StreamExt, TryStreamExt,
    future::{Either, select},
    stream,
};
use milvault_model::{
    CollectionName, CollectionRestore, CollectionStage, Failure, Progress, RestoreId, RestoreState, Time,
};
use milvault_ports::{CatalogError, PageRequest, items};

use super::{
    messages::combined_failure,
    shared::Shared,
    work::{Work, add_warnings},
};
use crate::{
    Error, Jobs,
    engine::{
        halt::{Halt, Step, Verdict, fatal, verdict},
        slice::PROGRESS_INTERVAL,
    },
};

/// How many collections are worked on concurrently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concurrency {
    /// Many, because most of the time they wait for the server.
    Many,
    /// One, because the server renames one at a time: with more, other renames would come between a collection's two.
    One,
    /// One, and none after one that fails or has to be tried again, because its name may have no collection.
    OneUntilFailure,
}

impl Concurrency {
    fn collections(self) -> usize {
        match self {
            Self::Many => 16,
            Self::One | Self::OneUntilFailure => 1,
        }
    }
}

/// How many lines of the ledger are in memory at once.
const PAGE_LINES: usize = 100;

impl<'a> Work<'a> {
    /// Calls `each` with every line of the ledger.
    pub(crate) async fn read_lines(&self, each: impl FnMut(CollectionRestore)) -> Result<(), Error> {
        read_lines(self.jobs, &self.restore.id, each).await
    }

    /// Runs `step` for every line of the ledger, concurrently; the job's progress counts lines.
    ///
    /// If a line fails, the others continue, except with [`Concurrency::OneUntilFailure`]. Afterwards the job fails
    /// with the reasons of all failed lines.
    pub(crate) async fn for_each_line<F>(&mut self, concurrency: Concurrency, step: F) -> Step
    where
        F: AsyncFn(&Shared<'a>, CollectionRestore) -> Step,
    {
        let shared = self.shared().await?;
        let begun_at = shared.advanced_at();
        let mut failed: Vec<Failure> = Vec::new();
        let (objects_total, imports) = (u64::from(self.restore.collections), self.run.progress.imports.take());
        self.run.progress = Progress { objects_total, imports, ..Progress::default() };
        let mut saved_at = Time::MIN_UTC;
        let mut after = None;
        loop {
            let page = PageRequest { after, limit: PAGE_LINES };
            let page = self.jobs.ports.catalog.ledger(&self.restore.id, page).await?;
            after = page.next;
            // Warnings from a worker that died before it wrote the restore's record.
            for line in &page.items {
                add_warnings(&mut self.restore.warnings, line.warnings.iter().cloned());
            }
            let mut results = stream::iter(page.items)
                .map(async |line| {
                    shared.require_time()?;
                    let target = line.target.clone();
                    step(&shared, line).await.map_err(|halt| refusal_as_failure(halt, concurrency, &target))
                })
                .buffer_unordered(concurrency.collections());
            let mut halt = None;
            loop {
                let pause = shared.jobs.ports.clock.sleep(PROGRESS_INTERVAL.to_std().unwrap_or_default());
                let next = match select(results.next(), pause).await {
                    Either::Left((Some(next), _)) => next,
                    Either::Left((None, _)) => break,
                    // No line has ended, but import jobs may have.
                    Either::Right(_) => {
                        self.save_progress(&shared, &mut saved_at).await?;
                        continue;
                    }
                };
                match next {
                    Ok(()) => {
                        self.run.progress.objects_done += 1;
                        self.save_progress(&shared, &mut saved_at).await?;
                    }
                    Err(Halt::Fatal(failure)) => {
                        failed.push(failure);
                        if concurrency == Concurrency::OneUntilFailure {
                            break;
                        }
                    }
                    // The other lines end before this halt is handled.
                    Err(other) => {
                        halt = Some(more_severe(halt, other));
                        if concurrency == Concurrency::OneUntilFailure {
                            break;
                        }
                    }
                }
            }
            drop(results);
            self.take_warnings(&shared);
            // The beginning of a slice doesn't count as progress.
            if shared.advanced_at() > begun_at {
                self.mark_advanced(shared.advanced_at());
            }
            self.save().await?;
            if let Some(halt) = halt {
                return Err(halt);
            }
            if after.is_none() || (concurrency == Concurrency::OneUntilFailure && !failed.is_empty()) {
                break;
            }
        }
        match failed.first().map(|failure| failure.code) {
            None => Ok(()),
            Some(code) => Err(combined_failure(code, failed.into_iter().map(|failure| failure.message).collect())),
        }
    }

    /// Saves the progress if it has changed and was last saved more than [`PROGRESS_INTERVAL`] ago.
    async fn save_progress(&mut self, shared: &Shared<'_>, saved_at: &mut Time) -> Result<(), Error> {
        let imports = self.run.progress.imports.map(|_| *shared.imported());
        let progress = Progress { imports, ..self.run.progress };
        let now = self.jobs.now();
        let is_saved = matches!(&self.restore.state, RestoreState::Running(run) if run.progress == progress);
        if is_saved || now - *saved_at <= PROGRESS_INTERVAL {
            return Ok(());
        }
        *saved_at = now;
        self.run.progress = progress;
        self.save().await
    }
}

/// Returns the halt that this worker has to act on when two lines halt: the one that stops the worker, if there is one.
/// A failed commit of a line may still take effect: if the worker retried another line instead of stopping, the late
/// commit would set its line back.
fn more_severe(before: Option<Halt>, halt: Halt) -> Halt {
    let ends_worker = |halt: &Halt| matches!(halt, Halt::Error(error) if matches!(verdict(error), Verdict::Stop));
    before.filter(ends_worker).unwrap_or(halt)
}

/// Turns a server's refusal into the failure of this one collection, if many are worked on: the others continue.
pub(super) fn refusal_as_failure(halt: Halt, concurrency: Concurrency, target: &CollectionName) -> Halt {
    match halt {
        Halt::Error(error) if concurrency == Concurrency::Many => match verdict(&error) {
            Verdict::Fail(failure) => fatal(failure.code, format!("{target}: {}", failure.message)),
            Verdict::Retry(_) | Verdict::Stop => Halt::Error(error),
        },
        halt => halt,
    }
}

/// Streams the lines of a ledger.
pub(super) fn lines<'a>(
    jobs: &'a Jobs,
    restore: &'a RestoreId,
) -> impl Stream<Item = Result<CollectionRestore, CatalogError>> + 'a {
    items(PAGE_LINES, |page| jobs.ports.catalog.ledger(restore, page))
}

/// Calls `each` with every line of a ledger, with one page of lines in memory at a time.
pub(super) async fn read_lines(
    jobs: &Jobs,
    restore: &RestoreId,
    mut each: impl FnMut(CollectionRestore),
) -> Result<(), Error> {
    let mut lines = pin!(lines(jobs, restore));
    while let Some(line) = lines.try_next().await? {
        each(line);
    }
    Ok(())
}

/// Returns the catalog's key of a line.
pub(super) fn line_key(number: u32) -> String {
    format!("{number:010}")
}

/// Returns whether the server has nothing that was made for a line: it was removed, or never made.
pub(super) fn is_undone(line: &CollectionRestore) -> bool {
    matches!(line.stage, CollectionStage::Waiting | CollectionStage::Undone)
}

#[cfg(test)]
mod tests {
    use milvault_ports::MilvusError;

    use super::*;

    #[test]
    fn a_worker_stops_after_a_failed_commit_even_if_another_line_can_be_retried() {
        let commit = || Halt::from(CatalogError::Unavailable("no answer in time".to_owned()));
        let server = || Halt::from(MilvusError::Unreachable("it is starting".to_owned()));
        let is_commit = |halt| matches!(halt, Halt::Error(Error::Catalog(_)));
        for halt in [server(), Halt::OutOfTime, Halt::CancelRequested] {
            assert!(is_commit(more_severe(Some(commit()), halt)));
        }
        assert!(is_commit(more_severe(Some(server()), commit())));
        assert!(is_commit(more_severe(None, commit())));
    }
}
