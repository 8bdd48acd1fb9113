//! A restore's ledger: a line for each of its collections, and the work on many of them at once.

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
    reasons::together,
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

/// Collections worked on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtOnce {
    /// Most of the time they wait for the server.
    Many,
    /// The server renames one at a time: others would come between the two renames of each.
    One,
    /// The same, and none after one that fails, or that has to be tried again: its name may be vacant meanwhile.
    OneUntilFailure,
}

impl AtOnce {
    fn collections(self) -> usize {
        match self {
            Self::Many => 16,
            Self::One | Self::OneUntilFailure => 1,
        }
    }
}

/// Lines of the ledger in memory at once.
const LINES: usize = 100;

impl<'a> Work<'a> {
    /// Reads the whole ledger, see [`read_lines`].
    pub(crate) async fn read_lines(&self, each: impl FnMut(CollectionRestore)) -> Result<(), Error> {
        read_lines(self.jobs, &self.restore.id, each).await
    }

    /// Does `step` to every line of the ledger, several at once; progress counts lines.
    ///
    /// A line that fails doesn't keep the others from going on, unless it is meant to; afterwards the job fails with
    /// every line's reason.
    pub(crate) async fn each_line<F>(&mut self, at_once: AtOnce, step: F) -> Step
    where
        F: AsyncFn(&Shared<'a>, CollectionRestore) -> Step,
    {
        let shared = self.shared().await?;
        let begun_at = shared.advanced_at();
        let mut failed: Vec<Failure> = Vec::new();
        let (objects_total, imports) = (u64::from(self.restore.collections), self.run.progress.imports.take());
        self.run.progress = Progress { objects_total, imports, ..Progress::default() };
        let mut shown_at = Time::MIN_UTC;
        let mut after = None;
        loop {
            let page = PageRequest { after, limit: LINES };
            let page = self.jobs.ports.catalog.ledger(&self.restore.id, page).await?;
            after = page.next;
            // Those of a worker that died before it wrote the restore's record.
            for line in &page.items {
                add_warnings(&mut self.restore.warnings, line.warnings.iter().cloned());
            }
            let mut results = stream::iter(page.items)
                .map(async |line| {
                    shared.require_time()?;
                    let target = line.target.clone();
                    step(&shared, line).await.map_err(|halt| of_line(halt, at_once, &target))
                })
                .buffer_unordered(at_once.collections());
            let mut halt = None;
            loop {
                let pause = shared.jobs.ports.clock.sleep(PROGRESS_INTERVAL.to_std().unwrap_or_default());
                let next = match select(results.next(), pause).await {
                    Either::Left((Some(next), _)) => next,
                    Either::Left((None, _)) => break,
                    // Jobs of imports end meanwhile.
                    Either::Right(_) => {
                        self.show_progress(&shared, &mut shown_at).await?;
                        continue;
                    }
                };
                match next {
                    Ok(()) => {
                        self.run.progress.objects_done += 1;
                        self.show_progress(&shared, &mut shown_at).await?;
                    }
                    Err(Halt::Fatal(failure)) => {
                        failed.push(failure);
                        if at_once == AtOnce::OneUntilFailure {
                            break;
                        }
                    }
                    // The others come to their own ends before this one is acted on.
                    Err(other) => {
                        halt = Some(graver(halt, other));
                        if at_once == AtOnce::OneUntilFailure {
                            break;
                        }
                    }
                }
            }
            drop(results);
            self.take_warnings(&shared);
            // That a slice begins gets nothing further.
            if shared.advanced_at() > begun_at {
                self.advanced(shared.advanced_at());
            }
            self.save().await?;
            if let Some(halt) = halt {
                return Err(halt);
            }
            if after.is_none() || (at_once == AtOnce::OneUntilFailure && !failed.is_empty()) {
                break;
            }
        }
        match failed.first().map(|failure| failure.code) {
            None => Ok(()),
            Some(code) => Err(together(code, failed.into_iter().map(|failure| failure.message).collect())),
        }
    }

    /// Writes down how far it is, if that is something new and was last done a while ago.
    async fn show_progress(&mut self, shared: &Shared<'_>, shown_at: &mut Time) -> Result<(), Error> {
        let imports = self.run.progress.imports.map(|_| *shared.imported());
        let progress = Progress { imports, ..self.run.progress };
        let now = self.jobs.now();
        let is_shown = matches!(&self.restore.state, RestoreState::Running(run) if run.progress == progress);
        if is_shown || now - *shown_at <= PROGRESS_INTERVAL {
            return Ok(());
        }
        *shown_at = now;
        self.run.progress = progress;
        self.save().await
    }
}

/// Of what stops two lines, that which this worker has to act on. A line whose commit failed may still be written: were the
/// worker to go on because another line can be tried again, the late commit would put the line back to where it was.
fn graver(before: Option<Halt>, halt: Halt) -> Halt {
    let ends_worker = |halt: &Halt| matches!(halt, Halt::Error(error) if matches!(verdict(error), Verdict::Stop));
    before.filter(ends_worker).unwrap_or(halt)
}

/// What the server refuses to one of many collections is told of that one, and doesn't keep the others from going on.
pub(super) fn of_line(halt: Halt, at_once: AtOnce, target: &CollectionName) -> Halt {
    match halt {
        Halt::Error(error) if at_once == AtOnce::Many => match verdict(&error) {
            Verdict::Fail(failure) => fatal(failure.code, format!("{target}: {}", failure.message)),
            Verdict::Retry(_) | Verdict::Stop => Halt::Error(error),
        },
        halt => halt,
    }
}

/// The lines of a ledger.
pub(super) fn lines<'a>(
    jobs: &'a Jobs,
    restore: &'a RestoreId,
) -> impl Stream<Item = Result<CollectionRestore, CatalogError>> + 'a {
    items(LINES, |page| jobs.ports.catalog.ledger(restore, page))
}

/// Reads a whole ledger, a page of it in memory at a time.
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

pub(super) fn key_of(number: u32) -> String {
    format!("{number:010}")
}

/// Whether nothing of a line is left at the server, or nothing was made yet.
pub(super) fn is_undone(line: &CollectionRestore) -> bool {
    matches!(line.stage, CollectionStage::Waiting | CollectionStage::Undone)
}

#[cfg(test)]
mod tests {
    use milvault_ports::MilvusError;

    use super::*;

    #[test]
    fn a_worker_whose_commit_failed_stops_whatever_another_line_waits_for() {
        let commit = || Halt::from(CatalogError::Unavailable("no answer in time".to_owned()));
        let server = || Halt::from(MilvusError::Unreachable("it is starting".to_owned()));
        let is_commit = |halt| matches!(halt, Halt::Error(Error::Catalog(_)));
        for halt in [server(), Halt::OutOfTime, Halt::CancelRequested] {
            assert!(is_commit(graver(Some(commit()), halt)));
        }
        assert!(is_commit(graver(Some(server()), commit())));
        assert!(is_commit(graver(None, commit())));
    }
}
