//! COPY: copies the plan's pages by server-side copies. Several pages are copied at once, some by other invocations.

use std::{collections::VecDeque, pin::pin};

use chrono::TimeDelta;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Either, select},
    stream::FuturesUnordered,
};
use milvault_model::{BackupPhase, Copying, PageSet, Pass, Time, Verifying};
use milvault_ports::{CopyEnd, CopyReport, CopyTask};

use super::{
    page_copy::{PageCopy, Shared},
    work::Work,
};
use crate::{
    Error,
    engine::{
        halt::{Halt, Step},
        slice::PROGRESS_INTERVAL,
    },
};

/// The number of pages that this invocation copies at once: while the last objects of one are copied, the next begins.
const PAGES_IN_FLIGHT: usize = 2;

/// The most time that another invocation gets for its page. Lambda keeps a caller waiting on a silent connection, which
/// networks cut after minutes.
const TASK: TimeDelta = TimeDelta::seconds(120);

/// The invocation that copies a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// This invocation.
    Here,
    /// Another invocation.
    Elsewhere,
}

/// Copies pages until all are done or the time is over.
pub(crate) async fn copy(work: &mut Work<'_>, mut copying: Copying) -> Step {
    let shared = Shared::new(work.jobs, work.deadline);
    copy_pages(work, &mut copying, &shared).await?;
    if copying.next < copying.plan.count {
        // The pages in flight record their copied objects; the next slice copies the rest.
        return Err(Halt::OutOfTime);
    }
    let Copying { capture, plan, gone, unexplained, .. } = copying;
    if gone.is_empty() && unexplained.is_empty() {
        return Ok(work.enter(BackupPhase::Verify(Verifying { capture, plan, next: 0 })).await?);
    }
    work.begin_again(Pass { capture, plan, collections: gone, unexplained, ..Pass::default() }).await
}

async fn copy_pages(work: &mut Work<'_>, copying: &mut Copying, shared: &Shared) -> Step {
    let mut pages: VecDeque<u32> =
        (copying.next..copying.plan.count).filter(|page| !copying.ahead.contains(page)).collect();
    // Lanes are taken from the end: this invocation's first.
    let others = work.instance.copy_workers.saturating_sub(1) as usize;
    let mut idle = [vec![Lane::Elsewhere; others], vec![Lane::Here; PAGES_IN_FLIGHT]].concat();
    let mut flying = FuturesUnordered::new();
    let mut failure = None;
    loop {
        while !pages.is_empty()
            && !shared.is_over(work.jobs)
            && let Some(lane) = idle.pop()
        {
            let Some(page) = pages.pop_front() else { break };
            let copied = copy_one(work, &copying.plan, page, lane, shared)?;
            flying.push(async move { (lane, page, copied.await) });
        }
        let tick = work.jobs.ports.clock.sleep(PROGRESS_INTERVAL.to_std().unwrap_or_default());
        match select(flying.next(), pin!(tick)).await {
            Either::Left((None, _)) => break,
            Either::Left((Some((lane, page, Ok(report))), _)) => {
                idle.push(lane);
                report.failed_at.into_iter().for_each(|failed_at| work.held.objects.record_failure(failed_at));
                shared.pages().remove(&page);
                copying.gone.extend(report.gone);
                match report.end {
                    CopyEnd::Whole => copying.finish(page, report.copied),
                    CopyEnd::Part => shared.count(page, report.copied),
                    CopyEnd::Failed(cause) => failure = Some(Halt::Fatal(cause)),
                }
            }
            // This lane isn't used again; the page goes to another one.
            Either::Left((Some((Lane::Elsewhere, page, Err(error))), _)) => {
                // The other invocation may still be copying, until its time is over.
                work.held.objects.record_failure(task_end(work));
                tracing::warn!(%error, page, backup = %work.backup.id, "another invocation failed to copy a page");
                pages.push_front(page);
            }
            Either::Left((Some((Lane::Here, _, Err(error))), _)) => failure = failure.or(Some(error.into())),
            Either::Right(_) => {}
        }
        let mut copied = copying.done;
        shared.pages().values().for_each(|page| copied.add(*page));
        let phase = BackupPhase::Copy(copying.clone());
        if copied.objects > work.run.progress.objects_done || phase != work.run.phase {
            work.run.progress.objects_done = copied.objects;
            work.run.progress.bytes_done = copied.bytes;
            work.run.phase = phase;
            if let Err(error) = work.checkpoint().await {
                failure = failure.or(Some(error.into()));
            }
        }
        if work.backup.cancel_requested_at.is_some() {
            failure = failure.or(Some(Halt::CancelRequested));
        }
        if failure.is_some() {
            shared.stop();
        }
    }
    failure.map_or(Ok(()), Err)
}

/// The deadline of a task that starts now.
fn task_end(work: &Work<'_>) -> Time {
    (work.jobs.now() + TASK).min(work.deadline.time())
}

/// Returns the future that copies one page.
fn copy_one<'a>(
    work: &Work<'a>,
    plan: &PageSet,
    page: u32,
    lane: Lane,
    shared: &'a Shared,
) -> Step<BoxFuture<'a, Result<CopyReport, Error>>> {
    let jobs = work.jobs;
    let task = CopyTask {
        instance_id: work.instance.id.clone(),
        backup_id: work.backup.id.clone(),
        region: work.backup.region.clone(),
        fence: work.lease.fence,
        plan: plan.fence(page),
        page,
        until: task_end(work),
    };
    Ok(match lane {
        Lane::Here => {
            let copy = PageCopy::new(jobs, &work.instance, task)?;
            async move { copy.run(shared).await }.boxed()
        }
        Lane::Elsewhere => async move { Ok(jobs.ports.copy_workers.copy(&task).await?) }.boxed(),
    })
}
