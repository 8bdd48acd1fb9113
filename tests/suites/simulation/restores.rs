//! What is promised of restores: rows, names, and that no collection of a user is ever dropped.

use std::collections::BTreeSet;

use milvault_harness::locked;
use milvault_model::{
    CollectionName, CollectionRestore, CollectionStage, Failure, FailureCode, InstanceId, JobRef, Previous, Restore,
    RestoreId, RestorePhase, RestoreState, RestoreStatus, Swap, Time, is_restore_name,
};
use milvault_ports::{Catalog, Objects, PageRequest};

use crate::{audit::Audit, ports::at_once, rules::Rule};

impl Audit {
    fn restores(&self, instance: &InstanceId) -> Vec<Restore> {
        let page = PageRequest { after: None, limit: 10_000 };
        at_once(self.catalog.restores(instance, page)).expect("the catalog in memory answers").items
    }

    pub(crate) fn lines(&self, restore: &RestoreId) -> Vec<CollectionRestore> {
        let page = PageRequest { after: None, limit: 10_000 };
        at_once(self.catalog.ledger(restore, page)).expect("the catalog in memory answers").items
    }

    fn by_id(&self, restore: &RestoreId) -> Option<Restore> {
        let instances: Vec<InstanceId> = locked(&self.servers).keys().cloned().collect();
        instances.iter().find_map(|instance| self.restore(instance, restore))
    }

    fn restore(&self, instance: &InstanceId, id: &RestoreId) -> Option<Restore> {
        let found = at_once(self.catalog.restore(instance, id)).expect("the catalog in memory answers");
        found.map(|found| found.value)
    }

    /// The restore that is the instance's job, if there is one.
    pub(crate) fn at_work(&self, instance: &InstanceId) -> Option<Restore> {
        match at_once(self.catalog.job(instance)) {
            Ok(Some(JobRef::Restore { restore_id, .. })) => self.restore(instance, &restore_id),
            _ => None,
        }
    }

    /// The phase of the restore that is the instance's job.
    pub(crate) fn phase(&self, instance: &InstanceId) -> Option<RestorePhase> {
        match self.at_work(instance)?.state {
            RestoreState::Running(run) => Some(run.phase),
            _ => None,
        }
    }

    /// Whether a restore moves names, or is about to.
    pub(crate) fn is_swapping(&self, instance: &InstanceId) -> bool {
        let phase = self.phase(instance);
        phase.is_some_and(|phase| {
            !matches!(phase, RestorePhase::Stage { .. } | RestorePhase::Build | RestorePhase::Import)
        })
    }

    /// A collection reached another stage.
    pub(crate) fn went_on(&self, restore: &RestoreId, line: &CollectionRestore) {
        let Some(restore) = self.by_id(restore) else { return };
        let id = match &line.stage {
            CollectionStage::Verified { id } => *id,
            CollectionStage::Swapping(swap) => return self.takes_for_live(&restore, line, swap),
            _ => return,
        };
        let point =
            locked(&self.seen).points.get(&restore.backup_id).and_then(|points| points.get(&line.source_id).copied());
        let servers = locked(&self.servers);
        let truth = point.zip(servers.get(&restore.source_instance_id));
        let truth = truth.and_then(|(point, server)| server.journal.rows_at_flush(line.source_id, point));
        let found = servers.get(&restore.instance_id).and_then(|server| server.all_rows(id));
        let (Some(truth), Some(found)) = (truth, found) else { return };
        let wanted: Vec<_> = truth.into_iter().collect();
        if found != wanted {
            let what = format!("{}: {} is verified with {found:?}, not {wanted:?}", restore.id, line.target);
            drop(servers);
            self.world.violate(Rule::Restored, what);
        }
    }

    /// Records the collection that a restore is about to replace: the one that has had the name since before the restore
    /// looked. If there was none, the server refuses the renaming, and the restore has to look again.
    fn takes_for_live(&self, restore: &Restore, line: &CollectionRestore, swap: &Swap) {
        let began = locked(&self.seen).swaps.get(&restore.id).copied();
        let servers = locked(&self.servers);
        let Some((began, server)) = began.zip(servers.get(&restore.instance_id)) else { return };
        let (taken, found) = (swap.live_id, server.id_of(&line.target));
        let had_it_before = |id| server.journal.named_since(id).is_some_and(|since| since < began);
        let is_wrong = taken.is_some() && found != taken && found.is_some_and(had_it_before);
        drop(servers);
        if is_wrong {
            let what = format!("{} takes {taken:?} for {}, which is {found:?}", restore.id, line.target);
            self.world.violate(Rule::Names, what);
        }
    }

    /// Handles a written restore record.
    pub(crate) fn restores_on(&self, restore: &Restore) {
        let status = restore.state.status();
        self.swap_begins(restore);
        let before = locked(&self.seen).restores.insert(restore.id.clone(), status);
        if before == Some(status) {
            return;
        }
        self.belongings_on(restore, before);
        if before.is_none() {
            return;
        }
        let lines = self.lines(&restore.id);
        let mut servers = locked(&self.servers);
        let Some(server) = servers.get_mut(&restore.instance_id) else { return };
        for line in &lines {
            let place = (restore.id.clone(), line.target.clone());
            let mut seen = locked(&self.seen);
            if let CollectionStage::Swapped(swap) = &line.stage {
                seen.replaced.entry(place.clone()).or_insert(swap.live_id);
            }
            // A restore that failed leaves no trace.
            if line.failure.is_some() && status == RestoreStatus::Completed {
                continue;
            }
            let has = match (&line.stage, status) {
                // A rollback brings back the same collection that was there before.
                (CollectionStage::Undone, RestoreStatus::RolledBack) => seen.replaced.get(&place).copied().flatten(),
                // Where another collection took the name, that one keeps it.
                (CollectionStage::Swapped(_) | CollectionStage::Swapping(_), _)
                | (CollectionStage::Undone, RestoreStatus::Completed) => server.id_of(&line.target),
                _ => continue,
            };
            match has {
                Some(has) => server.believed.insert(line.target.clone(), has),
                None => server.believed.remove(&line.target),
            };
        }
        let all_or_none = all_or_none(restore, &lines);
        let is_odd = |failure: &Failure| match failure.code {
            FailureCode::VerificationFailed => server.brings_rows(),
            FailureCode::SnapshotDamaged => true,
            _ => false,
        };
        let what = match &restore.state {
            RestoreState::Failed { failure, .. } if is_odd(failure) => {
                Some(format!("{} failed: {failure:?}", restore.id))
            }
            _ => lines.iter().find_map(|line| {
                let failure = line.failure.as_ref().filter(|failure| is_odd(failure))?;
                Some(format!("{} gave {} up: {failure:?}", restore.id, line.target))
            }),
        };
        drop(servers);
        if let Some(what) = what {
            self.world.violate(Rule::Restored, what);
        }
        if let Err(what) = all_or_none {
            self.world.violate(Rule::Names, what);
        }
    }

    /// Checks a collection that a restore is about to drop.
    pub(crate) fn drops(&self, instance: &InstanceId, name: &CollectionName, id: i64, now: Time) {
        let suffix = name.collection.rsplit('_').next().unwrap_or_default();
        let restore = self.restores(instance).into_iter().find(|restore| restore.id.short() == suffix);
        let line = restore.as_ref().and_then(|restore| {
            self.lines(&restore.id).into_iter().find(|line| {
                [
                    milvault_model::rebuilt_name(&line.target, &restore.id),
                    milvault_model::previous_name(&line.target, &restore.id),
                ]
                .contains(name)
            })
        });
        let is_right = match (restore, line) {
            (Some(restore), Some(line)) if name.collection.contains("__before_") => match (&restore.state, &line.stage)
            {
                (
                    RestoreState::Completed { previous: Previous::Kept { until }, .. },
                    CollectionStage::Swapped(swap),
                ) => *until <= now && swap.live_id == Some(id),
                (RestoreState::Running(run), CollectionStage::Swapped(swap)) => {
                    run.phase == RestorePhase::Clean && restore.keep_previous_hours == 0 && swap.live_id == Some(id)
                }
                _ => false,
            },
            (Some(restore), Some(line)) if name.collection.contains("__restore_") => {
                line.failure.is_some()
                    || !matches!(
                        &restore.state,
                        RestoreState::Running(run) if matches!(run.phase, RestorePhase::Swap | RestorePhase::Clean)
                    )
            }
            _ => false,
        };
        if !is_right {
            self.world.violate(Rule::Kept, format!("{name} ({id}) of {instance} is dropped"));
        }
    }

    /// Every name stands for the collection that users expect, unless it is being swapped.
    pub(crate) fn look_at_names(&self) {
        let instances: Vec<InstanceId> = locked(&self.servers).keys().cloned().collect();
        for instance in instances {
            let moving = self.moving(&instance);
            let servers = locked(&self.servers);
            let Some(server) = servers.get(&instance) else { continue };
            let wrong = server.believed.iter().find_map(|(name, id)| {
                let found = server.id_of(name);
                (found != Some(*id) && !moving.contains(name))
                    .then(|| format!("{name} of {instance} is {found:?}, not {id}"))
            });
            drop(servers);
            if let Some(wrong) = wrong {
                self.world.violate(Rule::Names, wrong);
            }
        }
    }

    /// The names that a restore is moving.
    fn moving(&self, instance: &InstanceId) -> BTreeSet<CollectionName> {
        let Some(restore) = self.at_work(instance) else { return BTreeSet::new() };
        let lines = self.lines(&restore.id).into_iter();
        lines
            .filter(|line| {
                matches!(
                    line.stage,
                    CollectionStage::Swapping(_) | CollectionStage::Swapped(_) | CollectionStage::Undone
                )
            })
            .map(|line| line.target)
            .collect()
    }

    /// When nothing is due any more, nothing that a restore made for itself is left.
    pub(crate) fn nothing_is_left_of_restores(&self, instances: &[InstanceId]) {
        let mut wrong = Vec::new();
        for instance in instances {
            for restore in self.restores(instance) {
                if matches!(restore.state.status(), RestoreStatus::Pending | RestoreStatus::Running) {
                    wrong.push((Rule::Status, format!("{} is {:?} for ever", restore.id, restore.state.status())));
                }
            }
            let kept: BTreeSet<CollectionName> = self
                .restores(instance)
                .into_iter()
                .filter(|restore| match &restore.state {
                    RestoreState::Completed { previous: Previous::Kept { .. }, .. } => true,
                    RestoreState::Completed { .. } => {
                        let mut reasons = restore.completeness.reasons().unwrap_or_default().iter();
                        reasons.any(|reason| names_what_is_in_the_way(reason))
                    }
                    RestoreState::Failed { failure, .. } => names_what_is_in_the_way(&failure.message),
                    _ => false,
                })
                .flat_map(|restore| {
                    let lines = self.lines(&restore.id).into_iter();
                    lines.map(move |line| milvault_model::previous_name(&line.target, &restore.id)).collect::<Vec<_>>()
                })
                .collect();
            let servers = locked(&self.servers);
            let Some(server) = servers.get(instance) else { continue };
            for name in server.names() {
                if is_restore_name(&name.collection) && !kept.contains(&name) {
                    wrong.push((Rule::NoLeftovers, format!("{name} of {instance} is left")));
                }
            }
            let bucket = server.bucket.clone();
            drop(servers);
            let staged = at_once(self.objects.list(&bucket, "milvault-staging/", None)).expect("the bucket is there");
            if let Some(object) = staged.items.first() {
                wrong.push((Rule::NoLeftovers, format!("{} of {instance} is left", object.key)));
            }
        }
        for (rule, what) in wrong {
            self.world.violate(rule, what);
        }
    }
}

/// Whether a failure says that a user put a collection in a swapped one's place.
pub(crate) fn names_what_is_in_the_way(message: &str) -> bool {
    message.contains("another collection was created") || message.contains("could not be put back")
}

/// All collections of a restore are swapped in, or none is.
fn all_or_none(restore: &Restore, lines: &[CollectionRestore]) -> Result<(), String> {
    let swapped = lines.iter().filter(|line| matches!(line.stage, CollectionStage::Swapped(_))).count();
    let wanted = lines.iter().filter(|line| line.failure.is_none()).count();
    let swapping = lines.iter().any(|line| matches!(line.stage, CollectionStage::Swapping(_)));
    let is_right = match &restore.state {
        // A rollback that wasn't possible has failed and says so.
        RestoreState::Completed { .. } => {
            let says_so = |warning: &String| warning.contains("the rollback was not possible");
            (swapped == wanted && wanted > 0) || lines.is_empty() || restore.warnings.iter().any(says_so)
        }
        RestoreState::Failed { failure, .. } => {
            (swapped == 0 && !swapping) || names_what_is_in_the_way(&failure.message)
        }
        RestoreState::Cancelled { .. } | RestoreState::RolledBack { .. } => swapped == 0 && !swapping,
        RestoreState::Pending | RestoreState::Running(_) => true,
    };
    match is_right {
        true => Ok(()),
        false => {
            Err(format!("{} is {:?} with {swapped} of {} swapped", restore.id, restore.state.status(), lines.len()))
        }
    }
}
