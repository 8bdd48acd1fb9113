//! The system's clock and randomness.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{SubsecRound, TimeDelta, Utc};
use milvault_model::Time;
use milvault_ports::{Clock, IdSource};
use ulid::Ulid;

/// The machine's clock, in whole milliseconds, which is the precision of ids and of the API's times.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock {
    ahead: TimeDelta,
}

impl SystemClock {
    /// A clock that is ahead by this time. Tests of a deployed stack use it to let hours pass.
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

/// Ids whose random part comes from the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl IdSource for RandomIds {
    fn ulid(&self, now: Time) -> Ulid {
        let mut random = [0; 16];
        // Eighty random bits. Without randomness, the id still has the right time, and the catalog refuses a second id
        // of the same millisecond.
        if let Err(error) = getrandom::fill(&mut random[6..]) {
            tracing::error!(%error, "no randomness available for an id");
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
