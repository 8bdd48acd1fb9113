//! The sweep, which runs regularly: it deletes expired backups, completes interrupted deletions and verifications,
//! resumes stalled jobs, and repeats notifications that failed.

use std::pin::pin;

use chrono::TimeDelta;
use futures::TryStreamExt;
use milvault_model::{
    Backup, BackupId, DueKind, InstanceId, JobRef, RestoreId, Time,
    retention::{self, Decision, Reason},
};
use milvault_ports::{CatalogError, Deadline, DueEntry, DueItem, Expect, Versioned, Write, items};
use serde::Serialize;
use tracing::{
    Instrument, Span,
    field::{Empty, display},
};

use crate::{Error, Jobs, backup::object_lock, deletion, events, expiry, schedule, waiting_runs};

/// The maximum number of verifications that one sweep starts, each as its own invocation. With a sweep every fifteen
/// minutes, this suffices for more than ten thousand backups a week.
const VERIFICATIONS: usize = 20;

/// A verification that has been due for longer than this fails in every attempt, or the sweep never reaches it.
const VERIFICATION_OVERDUE: TimeDelta = TimeDelta::days(1);

/// Whether the sweep acts or only reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepMode {
    /// The sweep acts.
    Act,
    /// The sweep only reports what it would do.
    DryRun,
}

/// The report of a sweep: what it did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepReport {
    /// Jobs whose worker was lost, resumed.
    pub resumed: Vec<JobRef>,
    /// Backups past their expiry, with the decision about each.
    pub expired: Vec<SweptBackup>,
    /// Interrupted deletions, completed if nothing prevented it.
    pub deletions: Vec<SweptBackup>,
    /// Backups whose weekly verification was begun or continued.
    pub verifications: Vec<SweptBackup>,
    /// The number of verifications that have been due for longer than a day: they fail, or there are too many of them.
    #[serde(skip)]
    pub verifications_overdue: usize,
    /// Restores whose previous collections or leftovers are due to be dropped.
    pub restores: Vec<SweptRestore>,
    /// Automatic backups whose schedule was reconciled or whose run was begun.
    pub automatic: Vec<SweptSchedule>,
    /// Errors. The next sweep tries again.
    pub errors: Vec<String>,
    /// The number of entries that didn't fit into these lists. The log has all of them.
    pub unlisted: u64,
    /// Whether the sweep handled everything that was due; if not, the next sweep continues.
    pub is_whole: bool,
    /// When the longest due item that the sweep reached became due.
    #[serde(skip)]
    pub oldest_due: Option<Time>,
}

/// The maximum length of each list in a report.
const LISTED: usize = 1_000;

impl SweepReport {
    /// Adds an item to a list, if there is room.
    fn list<T>(&mut self, item: T, list: impl Fn(&mut Self) -> &mut Vec<T>) {
        match list(self) {
            full if full.len() >= LISTED => self.unlisted += 1,
            list => list.push(item),
        }
    }
}

/// A backup that the sweep handled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweptBackup {
    /// The instance of the backup.
    pub instance_id: InstanceId,
    /// The backup's id.
    pub backup_id: BackupId,
    /// What was done, such as `Locked`, or the backup's new status as the API spells it.
    pub outcome: String,
    /// The reason for the decision about an expired backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A restore that the sweep handled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweptRestore {
    /// The instance that was restored into.
    pub instance_id: InstanceId,
    /// The restore's id.
    pub restore_id: RestoreId,
}

/// An instance's automatic backups that the sweep handled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweptSchedule {
    /// The instance.
    pub instance_id: InstanceId,
    /// What was done, or would be done.
    pub outcome: String,
}

/// Handles everything that is due. A failure of one item doesn't stop the sweep.
///
/// # Errors
/// The catalog can't list what is due.
pub async fn sweep(jobs: &Jobs, mode: SweepMode, deadline: Deadline) -> Result<SweepReport, Error> {
    let (sweep, mut report) = (Sweep { jobs, mode, deadline }, SweepReport::default());
    for kind in DueKind::ALL {
        let now = jobs.now();
        let mut due = pin!(items(100, |page| jobs.ports.catalog.due(kind, now, page)));
        while let Some(entry) = due.try_next().await? {
            report.oldest_due = report.oldest_due.into_iter().chain([entry.at]).min();
            if deadline.is_over(jobs.now()) {
                return Ok(report);
            }
            let handled = async {
                if let Err(error) = sweep.handle(kind, &entry, &mut report).await {
                    tracing::error!(%error, "the sweep skips an item that failed");
                    report.list(format!("{}: {error}", entry.item), |report| &mut report.errors);
                }
            };
            handled.instrument(span_of(kind, &entry.item)).await;
        }
    }
    report.is_whole = true;
    Ok(report)
}

/// The span of the log lines about an item.
fn span_of(due: DueKind, item: &DueItem) -> Span {
    let due = due.as_str();
    match item {
        DueItem::Job(instance) => tracing::error_span!("sweep", due, %instance, backup = Empty, restore = Empty),
        DueItem::AutoBackup(instance) => tracing::error_span!("sweep", due, %instance),
        DueItem::Notice(instance, notice) => tracing::error_span!("sweep", due, %instance, notice),
        DueItem::Backup(instance, backup) => tracing::error_span!("sweep", due, %instance, %backup),
        DueItem::Restore(instance, restore) => tracing::error_span!("sweep", due, %instance, %restore),
    }
}

/// A sweep in progress.
struct Sweep<'a> {
    jobs: &'a Jobs,
    mode: SweepMode,
    deadline: Deadline,
}

impl Sweep<'_> {
    /// Handles one item that is due.
    async fn handle(&self, kind: DueKind, entry: &DueEntry, report: &mut SweepReport) -> Result<(), Error> {
        let Self { jobs, mode, deadline } = *self;
        match &entry.item {
            DueItem::Job(instance) => {
                if let Some(job) = jobs.ports.catalog.job(instance).await? {
                    match &job {
                        JobRef::Backup { backup_id, .. } => Span::current().record("backup", display(backup_id)),
                        JobRef::Restore { restore_id, .. } => Span::current().record("restore", display(restore_id)),
                    };
                    tracing::info!("a job has no worker");
                    if mode == SweepMode::Act {
                        resume(jobs, &job).await;
                    }
                    report.list(job, |report| &mut report.resumed);
                }
            }
            // A backup is listed only for the earlier of the two, which must not hide the other.
            DueItem::Backup(instance, backup) if matches!(kind, DueKind::Expiry | DueKind::Verification) => {
                let found = jobs.backup(instance, backup).await?;
                let decision = expiry::decide(jobs, &found.value).await?;
                if !matches!(decision, Decision::Delete(_)) && kind == DueKind::Verification {
                    if jobs.now() - entry.at > VERIFICATION_OVERDUE {
                        tracing::warn!(since = %entry.at, "a verification is overdue");
                        report.verifications_overdue += 1;
                    }
                    verify(jobs, mode, instance, backup, report).await?;
                } else {
                    let outcome = match mode {
                        SweepMode::DryRun => decision.name().to_owned(),
                        SweepMode::Act => carry_out(jobs, found, &decision, deadline).await?,
                    };
                    tracing::info!(outcome, reason = %decision, "swept");
                    let expired =
                        SweptBackup { reason: Some(decision.to_string()), ..swept(instance, backup, outcome) };
                    report.list(expired, |report| &mut report.expired);
                }
            }
            DueItem::Backup(instance, backup) => {
                let record = match mode {
                    SweepMode::Act => deletion::finish(jobs, instance, backup, deadline).await?,
                    SweepMode::DryRun => jobs.backup(instance, backup).await?.value,
                };
                let outcome = record.state.status().to_string();
                tracing::info!(outcome, "swept");
                let deleted = swept(instance, backup, outcome);
                report.list(deleted, |report| &mut report.deletions);
            }
            DueItem::AutoBackup(instance) => {
                for swept in sweep_auto_backup(jobs, mode, instance).await? {
                    tracing::info!(outcome = swept.outcome, "swept");
                    report.list(swept, |report| &mut report.automatic);
                }
            }
            DueItem::Notice(instance, _) => {
                if mode == SweepMode::Act {
                    events::publish(jobs, instance).await?;
                }
            }
            DueItem::Restore(instance, restore) => {
                if mode == SweepMode::Act {
                    // Only the restore function has access to Milvus.
                    let job = JobRef::Restore { instance_id: instance.clone(), restore_id: restore.clone() };
                    resume(jobs, &job).await;
                }
                tracing::info!("swept");
                let restore = SweptRestore { instance_id: instance.clone(), restore_id: restore.clone() };
                report.list(restore, |report| &mut report.restores);
            }
        }
        Ok(())
    }
}

/// Carries out the decision about a backup whose expiry is due, and returns the outcome.
async fn carry_out(
    jobs: &Jobs,
    found: Versioned<Backup>,
    decision: &Decision,
    deadline: Deadline,
) -> Result<String, Error> {
    let Versioned { value: backup, version } = found;
    match decision {
        Decision::Delete(reason) => {
            let cause = match reason {
                Reason::Expired(_) => deletion::Cause::Expiry,
                Reason::Requested(_) => deletion::Cause::Request,
            };
            let deleted = deletion::delete_because(jobs, &backup.instance_id, &backup.id, cause, deadline).await?;
            Ok(deleted.state.status().to_string())
        }
        Decision::KeptAtLeast { .. } => {
            // Otherwise every sweep would read the backup for as long as it is kept.
            let kept_until = Some(jobs.now() + retention::LOOK_AGAIN);
            if object_lock::ends_soon(&backup, jobs.now()) {
                // The verification renews the locks, which were to end with the backup's retention.
                jobs.ports.continuation.verify(&backup.instance_id, &backup.id).await?;
            }
            let put = Write::Backup(Box::new(Backup { kept_until, ..backup }), Expect::Version(version));
            match jobs.ports.catalog.commit(vec![put]).await {
                // After a conflict (the backup was deleted, pinned or verified), the next sweep decides again.
                Ok(()) | Err(CatalogError::Conflict(_)) => Ok(decision.name().to_owned()),
                Err(error) => Err(error.into()),
            }
        }
        Decision::NotExpired { .. }
        | Decision::Unlimited
        | Decision::Locked { .. }
        | Decision::InUse(_)
        | Decision::NotFinished => Ok(decision.name().to_owned()),
    }
}

/// Starts a backup's verification, unless this sweep has started the maximum number of them.
async fn verify(
    jobs: &Jobs,
    mode: SweepMode,
    instance: &InstanceId,
    backup: &BackupId,
    report: &mut SweepReport,
) -> Result<(), Error> {
    if report.verifications.len() < VERIFICATIONS {
        if mode == SweepMode::Act {
            jobs.ports.continuation.verify(instance, backup).await?;
        }
        tracing::info!("a verification begins");
        report.verifications.push(swept(instance, backup, "Verify".to_owned()));
    }
    Ok(())
}

/// Reconciles the schedule if it is unconfirmed, and begins a run that wasn't delivered or is waiting.
async fn sweep_auto_backup(jobs: &Jobs, mode: SweepMode, instance: &InstanceId) -> Result<Vec<SweptSchedule>, Error> {
    let mut swept = Vec::new();
    let now = jobs.now();
    let record = schedule::find(jobs, instance).await?;
    let mut done = |outcome: String| swept.push(SweptSchedule { instance_id: instance.clone(), outcome });
    if record.needs_schedule_update(now) {
        if mode == SweepMode::Act {
            schedule::reconcile(jobs, instance).await?;
            tracing::warn!(switch = ?record.switch, "the schedule was made to agree with the catalog");
        }
        done("Reconcile".to_owned());
    }
    if let Some(pending) = record.pending(now) {
        if mode == SweepMode::Act {
            waiting_runs::begin_run(jobs, instance, pending).await;
        }
        done(format!("Begin {}", pending.to_rfc3339()));
    }
    Ok(swept)
}

fn swept(instance: &InstanceId, backup: &BackupId, outcome: String) -> SweptBackup {
    SweptBackup { instance_id: instance.clone(), backup_id: backup.clone(), outcome, reason: None }
}

async fn resume(jobs: &Jobs, job: &JobRef) {
    if let Err(error) = jobs.ports.continuation.resume(job).await {
        tracing::error!(%error, "the next sweep will try again");
    }
}
