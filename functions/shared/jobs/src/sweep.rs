//! The sweep: what nobody else would do. Deletes what has expired, finishes what was interrupted, drives on what stands
//! still.

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

use crate::{Error, Jobs, backup::object_lock, deletion, events, expiry, schedule, turns};

/// The most verifications that one sweep starts, each an invocation of its own; with a sweep every fifteen minutes, that
/// is enough for more than ten thousand backups a week.
const VERIFICATIONS: usize = 20;

/// A verification that is due for longer than this fails each time that it is begun, or is never come to.
const VERIFICATION_OVERDUE: TimeDelta = TimeDelta::days(1);

/// Whether the sweep acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepMode {
    /// It does.
    Act,
    /// It only says what it would do.
    DryRun,
}

/// What a sweep did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepReport {
    /// Jobs that stood still, driven on.
    pub resumed: Vec<JobRef>,
    /// Backups past their expiry, with what was decided.
    pub expired: Vec<SweptBackup>,
    /// Interrupted deletions, finished if nothing kept them from it.
    pub deletions: Vec<SweptBackup>,
    /// Backups whose weekly verification began, or goes on.
    pub verifications: Vec<SweptBackup>,
    /// How many have been due for longer than a day: they fail, or there are too many of them.
    #[serde(skip)]
    pub verifications_overdue: usize,
    /// Restores whose previous collections or leftovers are due to be dropped.
    pub restores: Vec<SweptRestore>,
    /// Automatic backups whose schedule or run was seen to.
    pub automatic: Vec<SweptSchedule>,
    /// What went wrong; the next sweep tries again.
    pub errors: Vec<String>,
    /// What isn't listed here, for want of room: the log has it.
    pub unlisted: u64,
    /// Whether everything that was due was looked at; if not, the next sweep goes on.
    pub is_whole: bool,
    /// Since when the oldest thing was due that it came to.
    #[serde(skip)]
    pub oldest: Option<Time>,
}

/// The most that each list of a report names, whatever there is to do.
const LISTED: usize = 1_000;

impl SweepReport {
    /// Names something in a list, if there is room.
    fn list<T>(&mut self, item: T, list: impl Fn(&mut Self) -> &mut Vec<T>) {
        match list(self) {
            full if full.len() >= LISTED => self.unlisted += 1,
            list => list.push(item),
        }
    }
}

/// A backup that the sweep looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweptBackup {
    /// Of which instance.
    pub instance_id: InstanceId,
    /// Which.
    pub backup_id: BackupId,
    /// What was retry_on_conflict, or how it stands now.
    pub outcome: String,
    /// Why, of an expired one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A restore that the sweep looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweptRestore {
    /// Into which instance.
    pub instance_id: InstanceId,
    /// Which.
    pub restore_id: RestoreId,
}

/// Automatic backups that the sweep looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweptSchedule {
    /// Of which instance.
    pub instance_id: InstanceId,
    /// What was, or would be, done.
    pub outcome: String,
}

/// Looks at everything that is due. One thing's failure doesn't keep the sweep from the others.
///
/// # Errors
/// When the catalog can't say what is due.
pub async fn sweep(jobs: &Jobs, mode: SweepMode, deadline: Deadline) -> Result<SweepReport, Error> {
    let (sweep, mut report) = (Sweep { jobs, mode, deadline }, SweepReport::default());
    for kind in DueKind::ALL {
        let now = jobs.now();
        let mut due = pin!(items(100, |page| jobs.ports.catalog.due(kind, now, page)));
        while let Some(entry) = due.try_next().await? {
            report.oldest = report.oldest.into_iter().chain([entry.at]).min();
            if deadline.is_over(jobs.now()) {
                return Ok(report);
            }
            let looked_at = async {
                if let Err(error) = sweep.look_at(kind, &entry, &mut report).await {
                    tracing::error!(%error, "the sweep goes on without");
                    report.list(format!("{}: {error}", entry.item), |report| &mut report.errors);
                }
            };
            looked_at.instrument(span_of(kind, &entry.item)).await;
        }
    }
    report.is_whole = true;
    Ok(report)
}

/// What is logged while an item is looked at says which.
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

/// A sweep under way.
struct Sweep<'a> {
    jobs: &'a Jobs,
    mode: SweepMode,
    deadline: Deadline,
}

impl Sweep<'_> {
    /// Looks at one thing that is due.
    async fn look_at(&self, kind: DueKind, entry: &DueEntry, report: &mut SweepReport) -> Result<(), Error> {
        let Self { jobs, mode, deadline } = *self;
        match &entry.item {
            DueItem::Job(instance) => {
                if let Some(job) = jobs.ports.catalog.job(instance).await? {
                    match &job {
                        JobRef::Backup { backup_id, .. } => Span::current().record("backup", display(backup_id)),
                        JobRef::Restore { restore_id, .. } => Span::current().record("restore", display(restore_id)),
                    };
                    tracing::info!("a job stands still");
                    if mode == SweepMode::Act {
                        resume(jobs, &job).await;
                    }
                    report.list(job, |report| &mut report.resumed);
                }
            }
            // Whichever of the two was due first, it must not hide the other.
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
                for seen_to in see_to(jobs, mode, instance).await? {
                    tracing::info!(outcome = seen_to.outcome, "swept");
                    report.list(seen_to, |report| &mut report.automatic);
                }
            }
            DueItem::Notice(instance, _) => {
                if mode == SweepMode::Act {
                    events::publish(jobs, instance).await?;
                }
            }
            DueItem::Restore(instance, restore) => {
                if mode == SweepMode::Act {
                    // Only the restore's own function reaches Milvus.
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

/// Does what was decided about a backup whose expiry is due; answers what came of it.
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
                Reason::Asked(_) => deletion::Cause::Request,
            };
            let deleted = deletion::delete_because(jobs, &backup.instance_id, &backup.id, cause, deadline).await?;
            Ok(deleted.state.status().to_string())
        }
        Decision::KeptAtLeast { .. } => {
            // Or every sweep would read it, as long as it is kept.
            let kept_until = Some(jobs.now() + retention::LOOK_AGAIN);
            if object_lock::ends_soon(&backup, jobs.now()) {
                // Which renews its locks: they were to end with it.
                jobs.ports.continuation.verify(&backup.instance_id, &backup.id).await?;
            }
            let put = Write::Backup(Box::new(Backup { kept_until, ..backup }), Expect::Version(version));
            match jobs.ports.catalog.commit(vec![put]).await {
                // It was deleted, pinned or verified meanwhile: the next sweep looks again.
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

/// Has a backup verified, unless this sweep has begun enough verifications.
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

/// Tells the scheduler what it may not know, and has a run begun that didn't come or that waits.
async fn see_to(jobs: &Jobs, mode: SweepMode, instance: &InstanceId) -> Result<Vec<SweptSchedule>, Error> {
    let mut seen_to = Vec::new();
    let now = jobs.now();
    let record = schedule::find(jobs, instance).await?;
    let mut done = |outcome: String| seen_to.push(SweptSchedule { instance_id: instance.clone(), outcome });
    if record.is_unsettled(now) {
        if mode == SweepMode::Act {
            schedule::settle(jobs, instance).await?;
            tracing::warn!(switch = ?record.switch, "the schedule was made what the catalog says");
        }
        done("Reconcile".to_owned());
    }
    if let Some(pending) = record.pending(now) {
        if mode == SweepMode::Act {
            turns::begin_run(jobs, instance, pending).await;
        }
        done(format!("Begin {}", pending.to_rfc3339()));
    }
    Ok(seen_to)
}

fn swept(instance: &InstanceId, backup: &BackupId, outcome: String) -> SweptBackup {
    SweptBackup { instance_id: instance.clone(), backup_id: backup.clone(), outcome, reason: None }
}

async fn resume(jobs: &Jobs, job: &JobRef) {
    if let Err(error) = jobs.ports.continuation.resume(job).await {
        tracing::error!(%error, "the next sweep tries again");
    }
}
