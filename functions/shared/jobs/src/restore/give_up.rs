//! Gives up a collection that can't be restored while the others continue ([`OnError::Continue`]): removes what was
//! built for it, and puts the live collection of its name back.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use milvault_model::{CollectionRestore, CollectionStage, Completeness, Failure, OnError};
use milvault_ports::PageRequest;

use super::{
    ledger::{Concurrency, is_undone, line_key, refusal_as_failure},
    messages::combined_failure,
    shared::Shared,
    undo::undo_line,
    work::Work,
};
use crate::{
    Error,
    engine::halt::{Halt, Step, Verdict, verdict},
};

impl<'a> Work<'a> {
    /// Runs `step` for every line that isn't given up, as [`Work::for_each_line`] does. With [`OnError::Continue`], a
    /// line that fails is given up and the others continue; if none is left, the restore fails.
    pub(super) async fn for_each_active_line<F>(&mut self, concurrency: Concurrency, step: F) -> Step
    where
        F: AsyncFn(&Shared<'a>, CollectionRestore) -> Step,
    {
        if self.restore.on_error == OnError::Stop {
            return self.for_each_line(concurrency, step).await;
        }
        let stuck: Mutex<Vec<(u32, Failure)>> = Mutex::default();
        let done = self
            .for_each_line(concurrency, async |shared, line| {
                let (number, target) = (line.number, line.target.clone());
                if line.failure.is_some() {
                    return undo_given_up(shared, line).await;
                }
                match step(shared, line).await.map_err(|halt| refusal_as_failure(halt, Concurrency::Many, &target)) {
                    Err(Halt::Fatal(failure)) => give_up(shared, number, failure).await,
                    Err(Halt::Error(error)) => {
                        if let Verdict::Retry(failure) = verdict(&error) {
                            stuck.lock().unwrap_or_else(PoisonError::into_inner).push((number, failure));
                        }
                        Err(Halt::Error(error))
                    }
                    done => done,
                }
            })
            .await;
        self.stuck = stuck.into_inner().unwrap_or_else(PoisonError::into_inner);
        done?;
        self.require_any_left().await
    }

    /// Gives up the collections that only wait for a temporary fault, once the job is stalled. Returns whether there
    /// were any.
    pub(super) async fn give_up_stuck(&mut self) -> Result<bool, Error> {
        let (stuck, mut is_any) = (std::mem::take(&mut self.stuck), false);
        if stuck.is_empty() {
            return Ok(false);
        }
        let shared = self.shared().await?;
        for (number, failure) in stuck {
            let mut line = shared.line(number).await?;
            if line.failure.is_none() {
                shared.give_up(&mut line, failure).await?;
                is_any = true;
            }
        }
        if is_any {
            self.mark_advanced(shared.advanced_at());
        }
        Ok(is_any)
    }

    /// Gives up collections of which nothing is built yet, by source ID and with a reason each.
    pub(super) async fn give_up_unbuilt(&self, reasons: &BTreeMap<String, Failure>) -> Result<(), Error> {
        let shared = self.shared().await?;
        let mut lines = Vec::new();
        self.read_lines(|line| {
            let reason = reasons.get(&line.source_id.to_string()).filter(|_| line.failure.is_none());
            lines.extend(reason.map(|reason| (line, reason.clone())));
        })
        .await?;
        for (mut line, reason) in lines {
            shared.give_up(&mut line, reason).await?;
        }
        Ok(())
    }

    /// Adds the given-up collections to the restore's completeness, which the next write saves.
    ///
    /// # Errors
    /// [`Halt::Fatal`] if every collection was given up.
    async fn require_any_left(&mut self) -> Step {
        let (mut all, mut failed) = (0, Vec::new());
        self.read_lines(|line| {
            all += 1;
            failed.extend(line.failure);
        })
        .await?;
        let code = failed.first().map(|failure| failure.code);
        let reasons = failed.iter().map(|failure| failure.message.clone());
        self.restore.completeness = Completeness::for_restore(reasons.clone());
        match code {
            Some(code) if failed.len() == all => Err(combined_failure(code, reasons.collect())),
            _ => Ok(()),
        }
    }

    /// Removes what is left of the collections that were given up. Returns whether everything is removed.
    pub(super) async fn remove_given_up(&mut self) -> Step<bool> {
        if self.restore.on_error == OnError::Stop {
            return Ok(true);
        }
        self.for_each_active_line(Concurrency::One, async |_, _| Ok(())).await?;
        let mut is_removed = true;
        self.read_lines(|line| is_removed &= line.failure.is_none() || is_undone(&line)).await?;
        Ok(is_removed)
    }
}

impl Shared<'_> {
    async fn give_up(&self, line: &mut CollectionRestore, failure: Failure) -> Result<(), Error> {
        line.give_up(failure, self.now());
        self.save(line).await
    }

    /// Reads a line of the ledger as it was last saved.
    async fn line(&self, number: u32) -> Result<CollectionRestore, Error> {
        let request = PageRequest { after: number.checked_sub(1).map(line_key), limit: 1 };
        let page = self.jobs.ports.catalog.ledger(&self.restore.id, request).await?;
        let line = page.items.into_iter().find(|line| line.number == number);
        line.ok_or_else(|| Error::RestoreNotFound(self.restore.instance_id.clone(), self.restore.id.to_string()))
    }
}

async fn give_up(shared: &Shared<'_>, number: u32, failure: Failure) -> Step {
    let mut line = shared.line(number).await?;
    tracing::warn!(
        code = %failure.code, collection = %line.target,
        "the collection is given up, and the others continue"
    );
    shared.give_up(&mut line, failure).await?;
    undo_given_up(shared, line).await
}

/// Undoes a collection that was given up. The others continue even if that fails: what is left is removed at the end,
/// or by the sweep. Only a live collection that was moved must be back in its place first.
async fn undo_given_up(shared: &Shared<'_>, line: CollectionRestore) -> Step {
    if is_undone(&line) {
        return Ok(());
    }
    let has_moved = matches!(line.stage, CollectionStage::Swapping(_) | CollectionStage::Swapped(_));
    let number = line.number;
    match undo_line(shared, line).await {
        // Another collection was put in its place: the failure names both, and neither is touched.
        Err(Halt::Fatal(stuck)) if has_moved => {
            let mut line = shared.line(number).await?;
            if let Some(failure) = &mut line.failure
                && !failure.message.contains(&stuck.message)
            {
                failure.message = format!("{}; {}", failure.message, stuck.message);
                shared.save(&line).await?;
            }
            Ok(())
        }
        Err(Halt::Fatal(failure)) => {
            tracing::warn!(code = %failure.code, number, "a collection that was given up is not removed yet");
            Ok(())
        }
        Err(Halt::Error(error)) if !has_moved && !matches!(verdict(&error), Verdict::Stop) => {
            tracing::warn!(%error, number, "a collection that was given up is not removed yet");
            Ok(())
        }
        undone => undone,
    }
}
