//! Automatic backups: changes to their settings, the schedule that follows them, and the runs.

use milvault_model::{
    AutoBackup, AutoRun, AutoRunState, Backup, BackupKind, Failure, InstanceId, MissedRuns, Notice, Plan,
    RequestedSwitch, RunDecision, ScheduleState, Switch, Time,
};
use milvault_ports::{CatalogError, Expect, Versioned, Write};

use crate::{
    Class, Error, Jobs, Precondition, Tag,
    backup::{self, CreateBackup},
    conflict::retry_on_conflict,
    events, waiting_runs,
};

/// The maximum number of attempts at a run whose record keeps changing; after that, the run is delivered again.
const ATTEMPTS: u32 = 8;

/// The maximum number of names that are tried for a run's backup, because other backups may have taken them.
const NAMES: u32 = 9;

/// Whether the scheduler has a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchedulerUpdate {
    /// The scheduler has the change.
    Confirmed,
    /// The scheduler may not have the change; the sweep passes it on.
    BySweep,
}

/// The result of a run's delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// A backup was accepted. The caller has to start working on it.
    Begun(Box<Backup>),
    /// The run can't begin yet, and waits.
    Waits(Failure),
    /// The run's backup can't be made.
    Failed(Failure),
    /// Nothing had to be done, for this reason.
    Nothing(&'static str),
}

/// Reads the record of an instance's automatic backups. If there is none, automatic backup was never switched on.
///
/// # Errors
/// When the catalog fails.
pub async fn find(jobs: &Jobs, instance: &InstanceId) -> Result<AutoBackup, Error> {
    let found = jobs.ports.catalog.auto_backup(instance).await?;
    Ok(found.map_or_else(|| AutoBackup::off(instance.clone()), |found| found.value))
}

/// Changes an instance's automatic backups: stores the plan that `plan` makes from the present one, passes it to the
/// scheduler, and stores that the scheduler has it. If a step fails, the sweep passes the catalog's record to the
/// scheduler.
///
/// # Errors
/// [`Error::InstanceNotFound`], [`Error::PreconditionFailed`]; when the catalog fails.
pub async fn change(
    jobs: &Jobs,
    instance: &InstanceId,
    plan: &(dyn Fn(&Plan) -> Plan + Send + Sync),
    wanted: RequestedSwitch,
    precondition: &Precondition,
) -> Result<(AutoBackup, SchedulerUpdate), Error> {
    let change = store(jobs, instance, plan, wanted, precondition).await?;
    let update = update_scheduler(jobs, &change.record.value).await;
    if let Err(error) = &update {
        tracing::warn!(%error, %instance, "the sweep will update the scheduler");
    }
    events::publish_or_leave_to_sweep(jobs, instance).await;
    if let Some(pending) = change.record.value.pending(jobs.now()) {
        waiting_runs::begin_run(jobs, instance, pending).await;
    }
    let changed = change.record.value.clone();
    // An earlier change's request that is still in progress may reach the scheduler after this one's.
    if update.is_err() || change.before != ScheduleState::Confirmed {
        return Ok((changed, SchedulerUpdate::BySweep));
    }
    Ok(match confirm(jobs, change.record).await? {
        Some(confirmed) => (confirmed, SchedulerUpdate::Confirmed),
        None => (changed, SchedulerUpdate::BySweep),
    })
}

/// A change that is stored.
struct Change {
    record: Versioned<AutoBackup>,
    /// The state of the schedule before the change.
    before: ScheduleState,
}

async fn store(
    jobs: &Jobs,
    instance: &InstanceId,
    plan: &(dyn Fn(&Plan) -> Plan + Send + Sync),
    wanted: RequestedSwitch,
    precondition: &Precondition,
) -> Result<Change, Error> {
    let catalog = jobs.ports.catalog.as_ref();
    retry_on_conflict(async || {
        let registered = jobs.instance(instance).await?;
        let (before, expect, version) = match catalog.auto_backup(instance).await? {
            None => (AutoBackup::off(instance.clone()), Expect::Absent, 1),
            Some(found) => (found.value, Expect::Version(found.version), found.version + 1),
        };
        // The object always exists: without a record, automatic backup is shown as switched off.
        precondition.check(Some(&Tag::for_auto_backup(&before)))?;
        let now = jobs.now();
        let changed = before.clone().changed(plan(&before.plan), wanted, now);
        let mut writes = vec![
            Write::AutoBackup(Box::new(changed.clone()), expect),
            // If the instance is removed at the same moment, this write fails, so that no record is left behind.
            Write::Instance(Box::new(registered.value), Expect::Version(registered.version)),
        ];
        let missed = missed_run(&changed).filter(|_| missed_run(&before).is_none());
        writes.extend(missed.map(|missed| Write::Notice(Box::new(Notice::runs_missed(instance, &missed, now)))));
        catalog.commit(writes).await?;
        Ok(Change { record: Versioned { value: changed, version }, before: before.schedule })
    })
    .await
}

/// Returns the record's last run, if it was missed.
fn missed_run(record: &AutoBackup) -> Option<MissedRuns> {
    match &record.last_run {
        Some(AutoRun { scheduled_for, state: AutoRunState::Missed { failure, .. } }) => {
            Some(MissedRuns { first: *scheduled_for, last: *scheduled_for, count: 1, failure: failure.clone() })
        }
        _ => None,
    }
}

/// Makes the scheduler's schedule agree with this record.
async fn update_scheduler(jobs: &Jobs, record: &AutoBackup) -> Result<(), Error> {
    let (schedules, instance) = (&jobs.ports.schedules, &record.instance_id);
    match record.switch {
        Switch::On { .. } => schedules.put(instance, &record.plan).await?,
        Switch::Off => schedules.remove(instance).await?,
    }
    Ok(())
}

/// Stores that the scheduler has this version of the record; `None` if the record has changed since.
async fn confirm(jobs: &Jobs, found: Versioned<AutoBackup>) -> Result<Option<AutoBackup>, Error> {
    let confirmed = AutoBackup { schedule: ScheduleState::Confirmed, ..found.value };
    let put = Write::AutoBackup(Box::new(confirmed.clone()), Expect::Version(found.version));
    match jobs.ports.catalog.commit(vec![put]).await {
        Ok(()) => Ok(Some(confirmed)),
        Err(CatalogError::Conflict(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes the writes that switch off the automatic backups of an instance that is being removed. The schedule is removed
/// afterwards: by [`remove_schedule`], or by the sweep if another request about the schedule may be in progress.
///
/// # Errors
/// When the catalog fails.
pub async fn removal_writes(jobs: &Jobs, instance: &InstanceId) -> Result<(Vec<Write>, SchedulerUpdate), Error> {
    let Some(found) = jobs.ports.catalog.auto_backup(instance).await? else {
        return Ok((Vec::new(), SchedulerUpdate::BySweep));
    };
    let update = match found.value.schedule {
        ScheduleState::Confirmed => SchedulerUpdate::Confirmed,
        ScheduleState::Unconfirmed { .. } => SchedulerUpdate::BySweep,
    };
    let mut off = AutoBackup::off(instance.clone());
    off.schedule = ScheduleState::Unconfirmed { since: jobs.now() };
    Ok((vec![Write::AutoBackup(Box::new(off), Expect::Version(found.version))], update))
}

/// Removes the schedule of a removed instance, then its record. If that fails, the sweep does it.
pub async fn remove_schedule(jobs: &Jobs, instance: &InstanceId) {
    if let Err(error) = reconcile(jobs, instance).await {
        tracing::warn!(%error, %instance, "the sweep will remove the schedule");
    }
}

/// Makes the scheduler's schedule agree with the catalog. Removes the record if the instance no longer exists.
///
/// # Errors
/// The catalog or the scheduler fails. The next sweep tries again.
pub(crate) async fn reconcile(jobs: &Jobs, instance: &InstanceId) -> Result<(), Error> {
    let Some(found) = jobs.ports.catalog.auto_backup(instance).await? else { return Ok(()) };
    update_scheduler(jobs, &found.value).await?;
    if jobs.ports.catalog.instance(instance).await?.is_some() || found.value.switch != Switch::Off {
        confirm(jobs, found).await?;
        return Ok(());
    }
    match jobs.ports.catalog.commit(vec![Write::RemoveAutoBackup(instance.clone(), found.version)]).await {
        // The instance was registered again, and its automatic backups were switched on.
        Ok(()) | Err(CatalogError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Begins the run that was scheduled for this time, or, if the event doesn't name a time, the latest run that is due.
///
/// However often the run is delivered, at most one backup is begun: the commit that accepts the backup also records the
/// run.
///
/// # Errors
/// The catalog fails. The run is delivered again, or the sweep finds it.
pub async fn run(jobs: &Jobs, instance: &InstanceId, scheduled_for: Option<Time>) -> Result<RunEnd, Error> {
    let mut names_taken = 0;
    for _ in 0..ATTEMPTS + NAMES {
        let Some(found) = jobs.ports.catalog.auto_backup(instance).await? else {
            return Ok(RunEnd::Nothing("automatic backup was never switched on"));
        };
        let now = jobs.now();
        let scheduled_for = scheduled_for.unwrap_or_else(|| found.value.plan.latest_run(now));
        let missed = match found.value.decide(scheduled_for, now) {
            RunDecision::Begin { missed } => missed,
            RunDecision::Nothing(reason) => {
                tracing::info!(%instance, %scheduled_for, reason, "a scheduled run has nothing to do");
                return Ok(RunEnd::Nothing(reason));
            }
        };
        let run = Run { jobs, found, scheduled_for, missed };
        match run.begin(names_taken).await {
            Ok(backup) => {
                tracing::info!(%instance, %scheduled_for, backup = %backup.id, "a scheduled run begins");
                events::publish_or_leave_to_sweep(jobs, instance).await;
                return Ok(RunEnd::Begun(Box::new(backup)));
            }
            Err(Error::NameTaken(..)) if names_taken < NAMES => names_taken += 1,
            // Another delivery of the run was faster, or a record changed.
            Err(Error::Catalog(CatalogError::Conflict(_))) => {}
            Err(Error::InstanceNotFound(_)) => return Ok(RunEnd::Nothing("the instance was removed")),
            Err(error) => {
                tracing::warn!(%error, %instance, %scheduled_for, "a scheduled run cannot begin");
                if let Some(end) = run.record_obstacle(error, now).await? {
                    events::publish_or_leave_to_sweep(jobs, instance).await;
                    return Ok(end);
                }
            }
        }
    }
    Err(Error::Inconsistent("the run's record changed in every attempt".to_owned()))
}

/// A run that is to begin.
struct Run<'a> {
    jobs: &'a Jobs,
    found: Versioned<AutoBackup>,
    scheduled_for: Time,
    missed: Option<MissedRuns>,
}

impl Run<'_> {
    async fn begin(&self, names_taken: u32) -> Result<Backup, Error> {
        let plan = &self.found.value.plan;
        let name = plan.name(self.scheduled_for, names_taken).map_err(|reason| {
            // Even a year of more than four digits makes a valid name, so this can't fail.
            Error::Inconsistent(reason.to_string())
        })?;
        let request = CreateBackup {
            instance_id: self.found.value.instance_id.clone(),
            name,
            kind: BackupKind::Auto,
            selection: Vec::new(),
            expires_in: Some(plan.retention_days.duration()),
            idempotency: None,
        };
        backup::create_with_writes(self.jobs, request, &|backup| self.started(backup)).await
    }

    /// Makes the writes that go with the acceptance of the backup.
    fn started(&self, backup: &Backup) -> Vec<Write> {
        let state = AutoRunState::Started { at: backup.created_at, backup_id: backup.id.clone() };
        let run = AutoRun { scheduled_for: self.scheduled_for, state };
        let is_late = run.late_by().is_some();
        let mut writes = self.record(run, backup.created_at);
        if is_late {
            writes.push(Write::Notice(Box::new(Notice::run_late(backup, self.scheduled_for))));
        }
        writes
    }

    fn record(&self, run: AutoRun, now: Time) -> Vec<Write> {
        let record = AutoBackup { last_run: Some(run), ..self.found.value.clone() };
        let mut writes = vec![Write::AutoBackup(Box::new(record), Expect::Version(self.found.version))];
        if let Some(missed) = &self.missed {
            let notice = Notice::runs_missed(&self.found.value.instance_id, missed, now);
            writes.push(Write::Notice(Box::new(notice)));
        }
        writes
    }

    /// Stores why the run can't begin; `None` if the record has changed since it was read.
    async fn record_obstacle(&self, error: Error, now: Time) -> Result<Option<RunEnd>, Error> {
        let Self { found, scheduled_for, .. } = self;
        let (end, state) = match obstacle(error)? {
            Obstacle::Passing(failure) => {
                let since = match &found.value.last_run {
                    Some(AutoRun {
                        scheduled_for: waiting,
                        state: AutoRunState::Waiting { since, failure: before },
                    }) if waiting == scheduled_for => {
                        if *before == failure {
                            return Ok(Some(RunEnd::Waits(failure)));
                        }
                        *since
                    }
                    _ => now,
                };
                (RunEnd::Waits(failure.clone()), AutoRunState::Waiting { since, failure })
            }
            Obstacle::Lasting(failure) => (RunEnd::Failed(failure.clone()), AutoRunState::Failed { at: now, failure }),
        };
        let mut writes = self.record(AutoRun { scheduled_for: *scheduled_for, state }, now);
        if let RunEnd::Failed(failure) = &end {
            let notice = Notice::run_failed(&found.value.instance_id, *scheduled_for, failure, now);
            writes.push(Write::Notice(Box::new(notice)));
        }
        match self.jobs.ports.catalog.commit(writes).await {
            Ok(()) => Ok(Some(end)),
            Err(CatalogError::Conflict(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The reason why a run can't begin.
enum Obstacle {
    /// The obstacle may disappear before the next run is due.
    Passing(Failure),
    /// The obstacle won't disappear by itself.
    Lasting(Failure),
}

fn obstacle(error: Error) -> Result<Obstacle, Error> {
    match (error.class(), error.failure()) {
        (Class::Busy | Class::Unavailable, Some(failure)) => Ok(Obstacle::Passing(failure)),
        (_, Some(failure)) => Ok(Obstacle::Lasting(failure)),
        (_, None) => Err(error),
    }
}
