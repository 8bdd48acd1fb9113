//! When nothing is due any more, nothing is left over and every job has ended.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use milvault_harness::locked;
use milvault_model::{
    Backup, BackupId, BackupState, BackupStatus, CollectionName, FailureCode, InstanceId, is_restore_name,
};
use milvault_ports::{Catalog, LeasePurpose};

use super::{Audit, Breach, Seen};
use crate::{
    format::{self},
    journal::Span,
    ports::at_once,
    rules::Rule,
    server::Server,
};

impl Audit {
    /// Checks what must hold when nothing is due any more.
    pub(crate) fn at_rest(&self, instances: &[InstanceId]) {
        self.look();
        self.automatic_at_rest(instances);
        self.nothing_is_left_of_restores(instances);
        let needed: BTreeSet<String> =
            locked(&self.seen).living().flat_map(|(_, living)| living.keys().cloned().collect::<Vec<_>>()).collect();
        let stored: BTreeSet<String> = self.list("").into_keys().collect();
        let left = stored.difference(&needed);
        let (late, left): (Vec<&String>, Vec<&String>) =
            left.partition(|key| locked(&self.seen).late_comers.contains(*key));
        let (data, documents): (Vec<&String>, Vec<&String>) = left.into_iter().partition(|key| format::is_data(key));
        let (of_publishing, data) = data.into_iter().partition(|key| locked(&self.seen).is_of_publishing(key));
        let of_the_living = |key: &&String| locked(&self.seen).living().any(|(id, _)| key.contains(id.as_str()));
        let (superfluous, documents) = documents.into_iter().partition(of_the_living);
        for (rule, left) in [
            (Rule::NoLateComers, late),
            (Rule::NoDataOfPublishing, of_publishing),
            (Rule::NoData, data),
            (Rule::NoDocuments, documents),
            (Rule::OnlyNamedDocuments, superfluous),
        ] {
            let left: Vec<&String> = left;
            if let Some(one) = left.first() {
                self.world.violate(rule, format!("{} objects are left that nobody needs, such as {one}", left.len()));
            }
        }
        self.who_owns_what(instances);
        for instance in instances {
            let now = self.world.now();
            let lease = at_once(self.catalog.acquire(instance, &LeasePurpose::Garbage, now, TimeDelta::seconds(1)));
            if !matches!(lease, Ok(Some(_))) {
                self.world.violate(Rule::Rest, format!("the lease of {instance} isn't free: {lease:?}"));
            }
            for backup in self.backups(instance) {
                if let Some(breach) = self.is_unfinished(&backup) {
                    self.report(breach.of(backup.id.as_str()));
                }
            }
        }
    }

    /// Checks that every account is right to the byte.
    pub(super) fn who_owns_what(&self, instances: &[InstanceId]) {
        let mut owned: BTreeMap<BackupId, u64> = BTreeMap::new();
        for (key, (size, _)) in self.list("").into_iter().filter(|(key, _)| format::is_data(key)) {
            let seen = locked(&self.seen);
            let owner = seen.living().filter(|(_, living)| living.keys().any(|known| *known == key)).map(|(id, _)| id);
            if let Some(owner) = owner.min() {
                *owned.entry(owner.clone()).or_default() += size;
            }
        }
        for instance in instances {
            for backup in self.backups(instance) {
                let account = at_once(self.catalog.account(&backup.region, instance, &backup.id)).expect("it answers");
                let account = account.map(|account| account.value.bytes()).unwrap_or_default();
                let truth = owned.get(&backup.id).copied().unwrap_or_default();
                if account != truth {
                    let what = format!("{} owns {truth} bytes, and its account says {account}", backup.id);
                    self.world.violate(Rule::Owned, what);
                }
            }
        }
    }

    pub(super) fn is_unfinished(&self, backup: &Backup) -> Option<Breach> {
        let breach = |rule, what| Some(Breach::new(rule, what));
        let holder = at_once(self.catalog.backup_named(&backup.instance_id, &backup.name)).expect("it answers");
        let has_name = holder.as_ref() == Some(&backup.id);
        if has_name != backup.is_living() {
            return breach(Rule::Status, format!("is {:?}, and its name belongs to {holder:?}", backup.state.status()));
        }
        match &backup.state {
            BackupState::Failed { failure, ended_at, .. } => {
                // A backup in which nothing can be captured fails.
                let is_of_nothing = failure.message.contains("no collection could be backed up");
                let has_trouble = |server: &Server| !server.is_sound() || server.ghost.is_some();
                let is_troubled = locked(&self.servers).get(&backup.instance_id).is_some_and(has_trouble);
                let span = Span { from: backup.created_at, until: *ended_at };
                let has_all_the_while = |server: &Server| {
                    let is_users = |name: &CollectionName| !is_restore_name(&name.collection);
                    let is_there = |(_, names): (i64, Vec<&CollectionName>)| names.into_iter().all(is_users);
                    server.journal.all_the_while(span).filter(|(id, _)| server.lists(*id)).any(is_there)
                };
                let was_emptied = !locked(&self.servers).get(&backup.instance_id).is_some_and(has_all_the_while);
                let is_asked_for_by_name = !backup.selection.is_empty();
                let is_excused = match failure.code {
                    _ if is_of_nothing && (is_troubled || was_emptied) => true,
                    // A collection that was selected by name is missing or dropped.
                    FailureCode::CollectionDropped | FailureCode::MilvusRefused => is_asked_for_by_name,
                    FailureCode::SourceChanged => is_asked_for_by_name || !self.is_calm,
                    FailureCode::SourceInconsistent => is_asked_for_by_name && is_troubled,
                    FailureCode::MilvusUnreachable | FailureCode::StorageUnreachable => !self.is_calm,
                    _ => false,
                };
                if is_excused { None } else { breach(Rule::Unharmed, format!("failed: {failure:?}")) }
            }
            BackupState::Available(_) | BackupState::Cancelled { .. } | BackupState::Deleted { .. } => None,
            other => breach(Rule::Status, format!("is {:?} for ever", other.status())),
        }
    }
}

impl Seen {
    /// Whether a data object was copied for a backup that was stopped in its last phase.
    pub(super) fn is_of_publishing(&self, key: &str) -> bool {
        let of = self.copied_for.get(key).and_then(|by| self.backups.iter().find(|(id, _)| id.as_str() == by));
        of.is_some_and(|(_, followed)| {
            followed.was_published && matches!(followed.status, BackupStatus::Cancelled | BackupStatus::Failed)
        })
    }
}
