//! Publication of notices to users, at least once in spite of crashes.
//!
//! The commit that changes a record also stores the notice of the change. The notice is published afterwards, then
//! removed. The sweep publishes the notices that a crash left behind.

use milvault_model::InstanceId;
use milvault_ports::{EVENTS_AT_ONCE, PageRequest, Write};

use crate::{Error, Jobs};

/// Publishes an instance's notices.
///
/// # Errors
/// The catalog fails, or the events aren't accepted. The sweep tries again.
pub async fn publish(jobs: &Jobs, instance: &InstanceId) -> Result<(), Error> {
    loop {
        let page = PageRequest { after: None, limit: EVENTS_AT_ONCE };
        let page = jobs.ports.catalog.notices(instance, page).await?;
        if page.items.is_empty() {
            return Ok(());
        }
        jobs.ports.events.publish(&page.items).await?;
        let told = page.items.into_iter().map(|notice| Write::RemoveNotice(notice.instance_id, notice.id)).collect();
        jobs.ports.catalog.commit(told).await?;
        if page.next.is_none() {
            return Ok(());
        }
    }
}

/// Publishes an instance's notices. A failure is logged, and the sweep tries again.
pub(crate) async fn publish_or_leave_to_sweep(jobs: &Jobs, instance: &InstanceId) {
    if let Err(error) = publish(jobs, instance).await {
        tracing::warn!(%error, %instance, "the sweep will publish the events");
    }
}
