//! Events on the account's default EventBridge bus, which users' rules can match.

use async_trait::async_trait;
use aws_sdk_eventbridge::{Client, error::DisplayErrorContext, primitives::DateTime, types::PutEventsRequestEntry};
use milvault_model::Notice;
use milvault_ports::{Clock, Events, EventsError};

use crate::{metrics, world::SystemClock};

/// The events' `source`.
const SOURCE: &str = "milvault";

pub(crate) struct EventBridgeEvents {
    pub(crate) client: Client,
    pub(crate) clock: SystemClock,
}

#[async_trait]
impl Events for EventBridgeEvents {
    async fn publish(&self, notices: &[Notice]) -> Result<(), EventsError> {
        let entries = notices.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let sent = self.client.put_events().set_entries(Some(entries)).send().await;
        let answer = sent.map_err(|error| EventsError(DisplayErrorContext(error).to_string()))?;
        match answer.entries().iter().find_map(|entry| entry.error_code().zip(entry.error_message())) {
            Some((code, message)) => Err(EventsError(format!("{code}: {message}"))),
            None if answer.failed_entry_count() > 0 => Err(EventsError("some weren't, without a reason".to_owned())),
            None => {
                metrics::emit_for(notices, self.clock.now());
                Ok(())
            }
        }
    }
}

fn entry(notice: &Notice) -> Result<PutEventsRequestEntry, EventsError> {
    let detail = serde_json::to_string(&notice.detail).map_err(|error| EventsError(error.to_string()))?;
    Ok(PutEventsRequestEntry::builder()
        .source(SOURCE)
        .detail_type(notice.kind.detail_type())
        .time(DateTime::from_millis(notice.at.timestamp_millis()))
        .detail(detail)
        .build())
}
