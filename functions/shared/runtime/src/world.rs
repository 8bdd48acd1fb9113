//! The real time and real randomness.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{SubsecRound, TimeDelta, Utc};
use milvault_model::Time;
use milvault_ports::{Clock, IdSource};
use ulid::Ulid;

/// The machine's clock, in whole milliseconds: the grain of ids and of what callers see.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock {
    ahead: TimeDelta,
}

impl SystemClock {
    /// One that shows a time so much later: with it, tests of a deployed stack let hours pass.
    pub fn ahead(ahead: TimeDelta) -> Self {
        Self { ahead }
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Time {
        (Utc::now() + self.ahead).trunc_subsecs(3)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Ids whose random part is the operating system's.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl IdSource for RandomIds {
    fn ulid(&self, now: Time) -> Ulid {
        let mut random = [0; 16];
        // Eighty bits. Without randomness the id is still of its time, and a second one of the same millisecond is
        // refused by the catalog.
        if let Err(error) = getrandom::fill(&mut random[6..]) {
            tracing::error!(%error, "no randomness for an id");
        }
        Ulid::from_parts(u64::try_from(now.timestamp_millis()).unwrap_or_default(), u128::from_be_bytes(random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_moment_differ_and_carry_its_time() {
        let now = SystemClock::default().now();
        let (one, other) = (RandomIds.ulid(now), RandomIds.ulid(now));
        assert_ne!(one, other);
        assert_eq!(i64::try_from(one.timestamp_ms()).unwrap(), now.timestamp_millis());
    }
}
