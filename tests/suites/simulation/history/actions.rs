//! What callers and the schedule do.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use milvault_jobs::{
    IdempotencyKey,
    backup::CreateBackup,
    restore::{BackupSelector, CreateRestore, DamagedBackup},
};
use milvault_model::{BackupId, BackupKind, BackupStatus, InstanceId, OnError, Reload, RestoreId, RestoreMode};
use milvault_ports::{Catalog, PageRequest};

use super::{COLLECTIONS, History, Invocation, collection};
use crate::ports::at_once;

const BACKUPS: [&str; 4] = ["daily", "weekly", "before the migration", "test"];

impl History {
    pub(super) fn act(&mut self) {
        let instance = self.world.draw(|random| random.pick(&self.instances).cloned());
        let Some(instance) = instance else { return };
        let restores = self.restores;
        if self.world.draw(|random| random.permille(restores * 10)) {
            return match self.world.draw(|random| random.below(10)) {
                0..6 => self.ask_for_a_restore(instance),
                6..8 => self.about_a_restore(instance, Invocation::Rollback),
                _ => self.about_a_restore(instance, Invocation::Cancel),
            };
        }
        match self.world.draw(|random| random.below(100)) {
            0..14 => self.ask_for_a_backup(instance),
            14..22 => self.about_a_backup(instance, Invocation::Delete),
            22..26 => self.about_a_backup(instance, Invocation::Verify),
            44..52 => self.ask_for_a_restore(instance),
            52..55 => self.about_a_restore(instance, Invocation::Rollback),
            55..57 => self.about_a_restore(instance, Invocation::Cancel),
            26..36 => self.world.invoke(Invocation::Sweep),
            57..59 => self.ask_for_automatic_backups(instance),
            59..63 => self.deliver_a_run(instance),
            63..67 => self.world.invoke(Invocation::Meter),
            36..44 => {
                if let Ok(Some(job)) = at_once(self.catalog.job(&instance)) {
                    self.world.invoke(Invocation::Run(job));
                }
            }
            _ => self.milvus_goes_on(&instance),
        }
    }

    pub(super) fn ask_for_a_backup(&mut self, instance_id: InstanceId) {
        self.next_key += 1;
        let number = self.next_key;
        let request = self.world.draw(|random| CreateBackup {
            instance_id,
            name: random.pick(&BACKUPS).unwrap_or(&"daily").parse().expect("a name"),
            kind: BackupKind::Manual,
            selection: match random.below(4) {
                0 => random.pick(&COLLECTIONS).map(|name| format!("default.{name}").parse().expect("a pattern")),
                _ => None,
            }
            .into_iter()
            .collect(),
            expires_in: random.permille(200).then(|| TimeDelta::minutes(random.between(3, 20).cast_signed())),
            idempotency: random
                .permille(500)
                .then(|| IdempotencyKey { key: format!("key {number}"), request_hash: number.to_string() }),
        });
        // A repeated request has one effect if it has an idempotency key.
        if request.idempotency.is_some() && self.world.draw(|random| random.permille(400)) {
            let (world, again) = (self.world.clone(), request.clone());
            // Half of them arrive while the first may still be running.
            let latest = if self.world.draw(|random| random.permille(500)) { 500 } else { 60_000 };
            let delay = self.world.draw(|random| random.below(latest)).cast_signed();
            let deliver = Box::new(move || world.invoke(Invocation::Create(again)));
            self.world.after(TimeDelta::milliseconds(delay), deliver);
        }
        self.world.invoke(Invocation::Create(request));
    }

    pub(super) fn ask_for_a_restore(&mut self, instance_id: InstanceId) {
        let source = self.world.draw(|random| match random.below(4) {
            0 => random.pick(&self.instances).cloned(),
            _ => None,
        });
        let source_instance_id = source.unwrap_or_else(|| instance_id.clone());
        let available: Vec<BackupId> = self
            .backups(&source_instance_id)
            .into_iter()
            .filter(|backup| backup.state.status() == BackupStatus::Available)
            .map(|backup| backup.id)
            .collect();
        let Some(id) = self.world.draw(|random| random.pick(&available).cloned()) else { return };
        self.next_key += 1;
        let number = self.next_key;
        let request = self.world.draw(|random| {
            let one = collection(random.pick(&COLLECTIONS).unwrap_or(&"items"));
            let way = random.below(6);
            CreateRestore {
                instance_id,
                source_instance_id,
                backup: BackupSelector::Id(id),
                selection: if way < 2 { vec![one.to_string().parse().expect("a pattern")] } else { Vec::new() },
                rename: if way == 0 { [(one, collection("copy"))].into() } else { BTreeMap::new() },
                damaged: DamagedBackup::Refuse,
                mode: if random.permille(150) { RestoreMode::Create } else { RestoreMode::Replace },
                reload: if random.permille(200) { Reload::None } else { Reload::AsBefore },
                on_error: if random.permille(300) { OnError::Continue } else { OnError::Stop },
                keep_previous_hours: if random.permille(300) { 0 } else { 1 },
                idempotency: random
                    .permille(500)
                    .then(|| IdempotencyKey { key: format!("key {number}"), request_hash: number.to_string() }),
            }
        });
        self.world.invoke(Invocation::Restore(request));
    }

    pub(super) fn about_a_restore(
        &self,
        instance: InstanceId,
        invocation: impl Fn(InstanceId, RestoreId) -> Invocation,
    ) {
        let page = PageRequest { after: None, limit: 1000 };
        let found = at_once(self.catalog.restores(&instance, page));
        let ids: Vec<RestoreId> = found.map(|page| page.items.into_iter().map(|r| r.id).collect()).unwrap_or_default();
        if let Some(id) = self.world.draw(|random| random.pick(&ids).cloned()) {
            self.world.invoke(invocation(instance, id));
        }
    }

    pub(super) fn about_a_backup(&self, instance: InstanceId, invocation: impl Fn(InstanceId, BackupId) -> Invocation) {
        let ids: Vec<BackupId> = self.backups(&instance).into_iter().map(|backup| backup.id).collect();
        if let Some(id) = self.world.draw(|random| random.pick(&ids).cloned()) {
            self.world.invoke(invocation(instance, id));
        }
    }
}
