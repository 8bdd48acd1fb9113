//! A collection that can't be restored, where the caller wants the others all the same ([`OnError::Continue`]): it is
//! given up, what was built for it is removed, and what was live under its name is what it was.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use milvault_model::{CollectionRestore, CollectionStage, Completeness, Failure, OnError};
use milvault_ports::PageRequest;

use super::{
    ledger::{AtOnce, is_undone, key_of, of_line},
    reasons::together,
    shared::Shared,
    undo::undo_line,
    work::Work,
};
use crate::{
    Error,
    engine::halt::{Halt, Step, Verdict, verdict},
};

impl<'a> Work<'a> {
    /// Does `step` to every line that is to come back, see [`Work::each_line`]. Where the caller wants that, one that
    /// fails is given up, and the others go on; if none is left, the restore fails.
    pub(super) async fn each_wanted<F>(&mut self, at_once: AtOnce, step: F) -> Step
    where
        F: AsyncFn(&Shared<'a>, CollectionRestore) -> Step,
    {
        if self.restore.on_error == OnError::Stop {
            return self.each_line(at_once, step).await;
        }
        let stuck: Mutex<Vec<(u32, Failure)>> = Mutex::default();
        let done = self
            .each_line(at_once, async |shared, line| {
                let (number, target) = (line.number, line.target.clone());
                if line.failure.is_some() {
                    return abandon(shared, line).await;
                }
                match step(shared, line).await.map_err(|halt| of_line(halt, AtOnce::Many, &target)) {
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
        self.require_some().await
    }

    /// Gives up the collections that have got no further for too long, if it is they that don't. Whether there were any.
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
            self.advanced(shared.advanced_at());
        }
        Ok(is_any)
    }

    /// Gives up collections of which nothing is made yet, each by its source's id and with its reason.
    pub(super) async fn give_up_before(&self, reasons: &BTreeMap<String, Failure>) -> Result<(), Error> {
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

    /// Writes down what is given up with the next write.
    ///
    /// # Errors
    /// [`Halt::Fatal`] if nothing is left to come back.
    async fn require_some(&mut self) -> Step {
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
            Some(code) if failed.len() == all => Err(together(code, reasons.collect())),
            _ => Ok(()),
        }
    }

    /// Removes what is left of the collections that were given up. Whether nothing is.
    pub(super) async fn is_rid_of_given_up(&mut self) -> Step<bool> {
        if self.restore.on_error == OnError::Stop {
            return Ok(true);
        }
        self.each_wanted(AtOnce::One, async |_, _| Ok(())).await?;
        let mut is_rid = true;
        self.read_lines(|line| is_rid &= line.failure.is_none() || is_undone(&line)).await?;
        Ok(is_rid)
    }
}

impl Shared<'_> {
    async fn give_up(&self, line: &mut CollectionRestore, failure: Failure) -> Result<(), Error> {
        line.give_up(failure, self.now());
        self.save(line).await
    }

    /// A line of the ledger, as it was written down last.
    async fn line(&self, number: u32) -> Result<CollectionRestore, Error> {
        let request = PageRequest { after: number.checked_sub(1).map(key_of), limit: 1 };
        let page = self.jobs.ports.catalog.ledger(&self.restore.id, request).await?;
        let line = page.items.into_iter().find(|line| line.number == number);
        line.ok_or_else(|| Error::RestoreNotFound(self.restore.instance_id.clone(), self.restore.id.to_string()))
    }
}

async fn give_up(shared: &Shared<'_>, number: u32, failure: Failure) -> Step {
    let mut line = shared.line(number).await?;
    tracing::warn!(code = ?failure.code, collection = %line.target, "given up: the others go on");
    shared.give_up(&mut line, failure).await?;
    abandon(shared, line).await
}

/// Puts back and removes what there is of a collection that was given up. Whether or not that can be done, the others go
/// on: what is left is removed at the end, or by the sweep. Only what was live must be in its place first.
async fn abandon(shared: &Shared<'_>, line: CollectionRestore) -> Step {
    if is_undone(&line) {
        return Ok(());
    }
    let has_moved = matches!(line.stage, CollectionStage::Swapping(_) | CollectionStage::Swapped(_));
    let number = line.number;
    match undo_line(shared, line).await {
        // Someone put another collection in its place: say which is where, and touch neither.
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
            tracing::warn!(code = ?failure.code, number, "what was given up isn't removed yet");
            Ok(())
        }
        Err(Halt::Error(error)) if !has_moved && !matches!(verdict(&error), Verdict::Stop) => {
            tracing::warn!(%error, number, "what was given up isn't removed yet");
            Ok(())
        }
        undone => undone,
    }
}
