//! Telling users what happened: at least once, whatever crashes.
//!
//! A notice is written in the commit in which it happened, published after that, and removed when it was. What a crash
//! leaves unpublished the sweep finds.

use milvault_model::InstanceId;
use milvault_ports::{EVENTS_AT_ONCE, PageRequest, Write};

use crate::{Error, Jobs};

/// Publishes what users haven't been told yet of an instance.
///
/// # Errors
/// When the catalog fails or the events aren't accepted; the sweep tries again.
pub async fn publish(jobs: &Jobs, instance: &InstanceId) -> Result<(), Error> {
    loop {
        let page = PageRequest { after: None, limit: EVENTS_AT_ONCE };
        let page = jobs.ports.catalog.notices(instance, page).await?;
        if page.items.is_empty() {
            return Ok(());
        }
        jobs.ports.events.publish(&page.items).await?;
        let told = page.items.into_iter().map(|notice| Write::Told(notice.instance_id, notice.id)).collect();
        jobs.ports.catalog.commit(told).await?;
        if page.next.is_none() {
            return Ok(());
        }
    }
}

/// Publishes what there is, as far as that is possible now.
pub(crate) async fn publish_or_leave_to_sweep(jobs: &Jobs, instance: &InstanceId) {
    if let Err(error) = publish(jobs, instance).await {
        tracing::warn!(%error, %instance, "the sweep will publish the events");
    }
}
