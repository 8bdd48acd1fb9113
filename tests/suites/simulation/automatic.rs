//! Automatic backups and what users are told: the scheduler, the bus, and what must hold of both.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chrono::TimeDelta;
use milvault_harness::{MemorySchedules, locked};
use milvault_model::{AutoRunState, BackupId, InstanceId, Notice, Plan, RequestedSwitch, Switch, Time};
use milvault_ports::{Catalog, Events, EventsError, Schedules, SchedulesError, Write};

use crate::{
    audit::Audit,
    calls::Nature,
    history::{History, Invocation},
    ports::{Port, at_once},
    rules::Rule,
};

fn no_schedule<T>(reason: String) -> Result<T, SchedulesError> {
    Err(SchedulesError(reason))
}

fn no_event<T>(reason: String) -> Result<T, EventsError> {
    Err(EventsError(reason))
}

#[async_trait]
impl Schedules for Port {
    async fn put(&self, instance: &InstanceId, plan: &Plan) -> Result<(), SchedulesError> {
        let (audit, instance, plan) = (self.audit.clone(), instance.clone(), plan.clone());
        let name = format!("schedule {instance} {}", plan.time);
        let effect = move || at_once(audit.scheduler.put(&instance, &plan));
        self.network.call(self.outgoing(Nature::Unguarded, name), effect, no_schedule).await
    }

    async fn remove(&self, instance: &InstanceId) -> Result<(), SchedulesError> {
        let (audit, instance) = (self.audit.clone(), instance.clone());
        let name = format!("unschedule {instance}");
        let effect = move || at_once(audit.scheduler.remove(&instance));
        self.network.call(self.outgoing(Nature::Unguarded, name), effect, no_schedule).await
    }
}

#[async_trait]
impl Events for Port {
    async fn publish(&self, notices: &[Notice]) -> Result<(), EventsError> {
        let (audit, notices) = (self.audit.clone(), notices.to_vec());
        let name = format!("publish {}", notices.iter().map(|notice| notice.id.as_str()).collect::<Vec<_>>().join(" "));
        let effect = move || {
            locked(&audit.automatic).told.extend(notices.into_iter().map(|notice| notice.id));
            Ok(())
        };
        self.network.call(self.outgoing(Nature::Guarded, name), effect, no_event).await
    }
}

/// The runs and notices that were seen.
#[derive(Default)]
pub(crate) struct Automatic {
    /// The backup that each run made.
    runs: BTreeMap<(InstanceId, Time), BackupId>,
    /// The notices that were due to users.
    to_tell: BTreeSet<String>,
    /// The notices that users got.
    told: BTreeSet<String>,
}

impl Audit {
    /// After a commit: a run makes one backup, and every end is due as a notice.
    pub(crate) fn automatic_on(&self, write: &Write) {
        let mut seen = locked(&self.automatic);
        match write {
            Write::AutoBackup(record, _) => {
                let Some(run) = &record.last_run else { return };
                let AutoRunState::Started { backup_id, .. } = &run.state else { return };
                let key = (record.instance_id.clone(), run.scheduled_for);
                let first = seen.runs.entry(key).or_insert_with(|| backup_id.clone());
                if first != backup_id {
                    self.world.violate(Rule::Once, format!("one run made two backups: {first} and {backup_id}"));
                }
            }
            Write::Notice(notice) => drop(seen.to_tell.insert(notice.id.clone())),
            Write::RemoveNotice(_, id) if !seen.told.contains(id) => {
                self.world.violate(Rule::Told, format!("{id} is taken for told, but nobody was"));
            }
            _ => {}
        }
    }

    /// The scheduler has what the catalog says, no run is forgotten, and every notice was delivered.
    pub(crate) fn automatic_at_rest(&self, instances: &[InstanceId]) {
        let now = self.world.now();
        for instance in instances {
            let Ok(Some(found)) = at_once(self.catalog.auto_backup(instance)) else { continue };
            let wanted = matches!(found.value.switch, Switch::On { .. }).then(|| found.value.plan.clone());
            let has = self.scheduler.plan(instance);
            if has != wanted {
                self.world.violate(Rule::Scheduled, format!("the scheduler has {has:?} of {instance}, not {wanted:?}"));
            }
            if let Some(pending) = found.value.pending(now) {
                self.world.violate(Rule::Scheduled, format!("the run of {pending} of {instance} is forgotten"));
            }
        }
        let seen = locked(&self.automatic);
        if let Some(silent) = seen.to_tell.difference(&seen.told).next() {
            self.world.violate(Rule::Told, format!("nobody was told of {silent}"));
        }
    }
}

impl History {
    /// Someone switches automatic backups on or off, or changes their time.
    pub(crate) fn ask_for_automatic_backups(&self, instance: InstanceId) {
        let soon = self.world.now() + TimeDelta::minutes(self.world.draw(|random| random.between(1, 20)).cast_signed());
        let plan = Plan { time: soon.format("%H:%M").to_string().parse().expect("a time"), ..Plan::default() };
        let wanted =
            if self.world.draw(|random| random.permille(800)) { RequestedSwitch::On } else { RequestedSwitch::Off };
        self.world.invoke(Invocation::SetAutoBackup(instance, plan, wanted));
    }

    /// The scheduler delivers a run, perhaps late, perhaps more than once, perhaps without its time.
    pub(crate) fn deliver_a_run(&self, instance: InstanceId) {
        let Some(plan) = self.audit.scheduler.plan(&instance) else { return };
        let run = plan.latest_run(self.world.now());
        let time = self.world.draw(|random| random.permille(800)).then_some(run);
        for _ in 0..self.world.draw(|random| random.between(1, 5)) {
            self.world.invoke(Invocation::Scheduled(instance.clone(), time));
        }
    }
}

/// The scheduler's state: requests count in the order in which they arrive.
pub(crate) type Scheduler = MemorySchedules;
