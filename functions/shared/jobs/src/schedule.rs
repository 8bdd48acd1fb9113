//! Automatic backups: what is asked for, the scheduler that has to know it, and the runs.

use milvault_model::{
    AutoBackup, AutoRun, AutoRunState, Backup, BackupKind, Failure, InstanceId, MissedRuns, Notice, Plan, RunDecision,
    ScheduleState, Switch, Time, Wanted,
};
use milvault_ports::{CatalogError, Expect, Versioned, Write};

use crate::{
    Class, Error, Jobs, Precondition, Tag,
    backup::{self, CreateBackup},
    conflict::retry_on_conflict,
    events, turns,
};

/// How often a run is looked at anew because its record changed at the same moment; then it is delivered again.
const LOOKS: u32 = 8;

/// How many names are tried for a backup: others may have taken the run's.
const NAMES: u32 = 9;

/// Whether the scheduler has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It has.
    Yes,
    /// It may not have; the sweep sees to it.
    BySweep,
}

/// What came of a run's delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// A backup was begun, and is for the caller to drive.
    Begun(Box<Backup>),
    /// It waits for its turn.
    Waits(Failure),
    /// It can't be made.
    Failed(Failure),
    /// There was nothing to do, for this reason.
    Nothing(&'static str),
}

/// What is known of an instance's automatic backups; that none were ever asked for, if so.
///
/// # Errors
/// When the catalog fails.
pub async fn find(jobs: &Jobs, instance: &InstanceId) -> Result<AutoBackup, Error> {
    let found = jobs.ports.catalog.auto_backup(instance).await?;
    Ok(found.map_or_else(|| AutoBackup::off(instance.clone()), |found| found.value))
}

/// Changes an instance's automatic backups: writes down what is wanted, as `plan` makes it of the present plan, tells the
/// scheduler, and writes down that it knows. Whatever goes wrong in between, the sweep tells the scheduler what the
/// catalog says.
///
/// # Errors
/// [`Error::InstanceNotFound`], [`Error::PreconditionFailed`]; when the catalog fails.
pub async fn change(
    jobs: &Jobs,
    instance: &InstanceId,
    plan: &(dyn Fn(&Plan) -> Plan + Send + Sync),
    wanted: Wanted,
    precondition: &Precondition,
) -> Result<(AutoBackup, Told), Error> {
    let change = write_down(jobs, instance, plan, wanted, precondition).await?;
    let told = tell(jobs, &change.record.value).await;
    if let Err(error) = &told {
        tracing::warn!(%error, %instance, "the sweep will tell the scheduler");
    }
    events::publish_or_leave_to_sweep(jobs, instance).await;
    if let Some(pending) = change.record.value.pending(jobs.now()) {
        turns::begin_run(jobs, instance, pending).await;
    }
    let changed = change.record.value.clone();
    // While another change's request may be under way, nobody knows which of them comes last.
    if told.is_err() || change.before != ScheduleState::Confirmed {
        return Ok((changed, Told::BySweep));
    }
    Ok(match confirm(jobs, change.record).await? {
        Some(confirmed) => (confirmed, Told::Yes),
        None => (changed, Told::BySweep),
    })
}

/// A change that is durable.
struct Change {
    record: Versioned<AutoBackup>,
    /// What was known of the scheduler before it.
    before: ScheduleState,
}

async fn write_down(
    jobs: &Jobs,
    instance: &InstanceId,
    plan: &(dyn Fn(&Plan) -> Plan + Send + Sync),
    wanted: Wanted,
    precondition: &Precondition,
) -> Result<Change, Error> {
    let catalog = jobs.ports.catalog.as_ref();
    retry_on_conflict(async || {
        let registered = jobs.instance(instance).await?;
        let (before, expect, version) = match catalog.auto_backup(instance).await? {
            None => (AutoBackup::off(instance.clone()), Expect::Absent, 1),
            Some(found) => (found.value, Expect::Version(found.version), found.version + 1),
        };
        // There always is something: that nothing was ever asked for is shown as switched off.
        precondition.check(Some(&Tag::of_auto_backup(&before)))?;
        let now = jobs.now();
        let changed = before.clone().changed(plan(&before.plan), wanted, now);
        let mut writes = vec![
            Write::AutoBackup(Box::new(changed.clone()), expect),
            // So that nothing is left behind of an instance that is being removed at this moment.
            Write::Instance(Box::new(registered.value), Expect::Version(registered.version)),
        ];
        let missed = missed_by(&changed).filter(|_| missed_by(&before).is_none());
        writes.extend(missed.map(|missed| Write::Notice(Box::new(Notice::runs_missed(instance, &missed, now)))));
        catalog.commit(writes).await?;
        Ok(Change { record: Versioned { value: changed, version }, before: before.schedule })
    })
    .await
}

/// The run that a change of the record has ended.
fn missed_by(record: &AutoBackup) -> Option<MissedRuns> {
    match &record.last_run {
        Some(AutoRun { scheduled_for, state: AutoRunState::Missed { failure, .. } }) => {
            Some(MissedRuns { first: *scheduled_for, last: *scheduled_for, count: 1, failure: failure.clone() })
        }
        _ => None,
    }
}

/// Makes the scheduler have what the catalog says.
async fn tell(jobs: &Jobs, record: &AutoBackup) -> Result<(), Error> {
    let (schedules, instance) = (&jobs.ports.schedules, &record.instance_id);
    match record.switch {
        Switch::On { .. } => schedules.put(instance, &record.plan).await?,
        Switch::Off => schedules.remove(instance).await?,
    }
    Ok(())
}

/// Writes down that the scheduler has what this version of the record says; `None` if it changed meanwhile.
async fn confirm(jobs: &Jobs, found: Versioned<AutoBackup>) -> Result<Option<AutoBackup>, Error> {
    let confirmed = AutoBackup { schedule: ScheduleState::Confirmed, ..found.value };
    let put = Write::AutoBackup(Box::new(confirmed.clone()), Expect::Version(found.version));
    match jobs.ports.catalog.commit(vec![put]).await {
        Ok(()) => Ok(Some(confirmed)),
        Err(CatalogError::Conflict(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The writes that make an instance that is being removed have no automatic backups. The schedule goes afterwards: by
/// [`forget`], or by the sweep where another request about it may be under way.
///
/// # Errors
/// When the catalog fails.
pub async fn removal(jobs: &Jobs, instance: &InstanceId) -> Result<(Vec<Write>, Told), Error> {
    let Some(found) = jobs.ports.catalog.auto_backup(instance).await? else { return Ok((Vec::new(), Told::BySweep)) };
    let told = match found.value.schedule {
        ScheduleState::Confirmed => Told::Yes,
        ScheduleState::Unconfirmed { .. } => Told::BySweep,
    };
    let mut off = AutoBackup::off(instance.clone());
    off.schedule = ScheduleState::Unconfirmed { since: jobs.now() };
    Ok((vec![Write::AutoBackup(Box::new(off), Expect::Version(found.version))], told))
}

/// Removes the schedule of an instance that was removed, then its record.
pub async fn forget(jobs: &Jobs, instance: &InstanceId) {
    if let Err(error) = settle(jobs, instance).await {
        tracing::warn!(%error, %instance, "the sweep will remove the schedule");
    }
}

/// Makes the scheduler have what the catalog says, where it may not; whether it was told.
///
/// # Errors
/// When the catalog or the scheduler fails; the next sweep tries again.
pub(crate) async fn settle(jobs: &Jobs, instance: &InstanceId) -> Result<(), Error> {
    let Some(found) = jobs.ports.catalog.auto_backup(instance).await? else { return Ok(()) };
    tell(jobs, &found.value).await?;
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

/// Begins the run that was scheduled for this time; the latest that is due, if the event doesn't say.
///
/// However often it is delivered, at most one backup is begun: the record says so in the commit that accepts the backup.
///
/// # Errors
/// When the catalog fails; the run is delivered again, or found by the sweep.
pub async fn run(jobs: &Jobs, instance: &InstanceId, scheduled_for: Option<Time>) -> Result<RunEnd, Error> {
    let mut again = 0;
    for _ in 0..LOOKS + NAMES {
        let Some(found) = jobs.ports.catalog.auto_backup(instance).await? else {
            return Ok(RunEnd::Nothing("no automatic backups were asked for"));
        };
        let now = jobs.now();
        let scheduled_for = scheduled_for.unwrap_or_else(|| found.value.plan.latest_run(now));
        let missed = match found.value.decide(scheduled_for, now) {
            RunDecision::Begin { missed } => missed,
            RunDecision::Nothing(reason) => {
                tracing::info!(%instance, %scheduled_for, reason, "nothing to do for a scheduled run");
                return Ok(RunEnd::Nothing(reason));
            }
        };
        let run = Run { jobs, found, scheduled_for, missed };
        match run.begin(again).await {
            Ok(backup) => {
                tracing::info!(%instance, %scheduled_for, backup = %backup.id, "a scheduled run begins");
                events::publish_or_leave_to_sweep(jobs, instance).await;
                return Ok(RunEnd::Begun(Box::new(backup)));
            }
            Err(Error::NameTaken(..)) if again < NAMES => again += 1,
            // Another delivery of the run was faster, or something changed: look again.
            Err(Error::Catalog(CatalogError::Conflict(_))) => {}
            Err(Error::InstanceNotFound(_)) => return Ok(RunEnd::Nothing("the instance is gone")),
            Err(error) => {
                tracing::warn!(%error, %instance, %scheduled_for, "a scheduled run can't begin");
                if let Some(end) = run.end(error, now).await? {
                    events::publish_or_leave_to_sweep(jobs, instance).await;
                    return Ok(end);
                }
            }
        }
    }
    Err(Error::Inconsistent("the run's record changed every time that it was read".to_owned()))
}

/// A run that is to begin.
struct Run<'a> {
    jobs: &'a Jobs,
    found: Versioned<AutoBackup>,
    scheduled_for: Time,
    missed: Option<MissedRuns>,
}

impl Run<'_> {
    async fn begin(&self, again: u32) -> Result<Backup, Error> {
        let plan = &self.found.value.plan;
        let name = plan.name(self.scheduled_for, again).map_err(|reason| {
            // A year of more than four digits is still a name; nothing else can be wrong with it.
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
        backup::create_with_writes(self.jobs, request, &|backup| self.begun(backup)).await
    }

    /// What goes with the backup's acceptance.
    fn begun(&self, backup: &Backup) -> Vec<Write> {
        let state = AutoRunState::Started { at: backup.created_at, backup_id: backup.id.clone() };
        let run = AutoRun { scheduled_for: self.scheduled_for, state };
        let is_late = run.late_by().is_some();
        let mut writes = self.put(run, backup.created_at);
        if is_late {
            writes.push(Write::Notice(Box::new(Notice::run_late(backup, self.scheduled_for))));
        }
        writes
    }

    fn put(&self, run: AutoRun, now: Time) -> Vec<Write> {
        let record = AutoBackup { last_run: Some(run), ..self.found.value.clone() };
        let mut writes = vec![Write::AutoBackup(Box::new(record), Expect::Version(self.found.version))];
        if let Some(missed) = &self.missed {
            let notice = Notice::runs_missed(&self.found.value.instance_id, missed, now);
            writes.push(Write::Notice(Box::new(notice)));
        }
        writes
    }

    /// Writes down why the run can't begin; `None` if the record changed meanwhile.
    async fn end(&self, error: Error, now: Time) -> Result<Option<RunEnd>, Error> {
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
        let mut writes = self.put(AutoRun { scheduled_for: *scheduled_for, state }, now);
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

/// What keeps a run from beginning.
enum Obstacle {
    /// It may pass before the next run.
    Passing(Failure),
    /// It won't.
    Lasting(Failure),
}

fn obstacle(error: Error) -> Result<Obstacle, Error> {
    match (error.class(), error.failure()) {
        (Class::Busy | Class::Unavailable, Some(failure)) => Ok(Obstacle::Passing(failure)),
        (_, Some(failure)) => Ok(Obstacle::Lasting(failure)),
        (_, None) => Err(error),
    }
}
