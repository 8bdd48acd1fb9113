//! Ids that are the same in every run with the same seed.

use std::sync::atomic::{AtomicU64, Ordering};

use milvault_model::Time;
use milvault_ports::IdSource;
use ulid::Ulid;

/// SplitMix64's increment: the state goes through all 64-bit values before it repeats one.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Ids from a seed, by SplitMix64: one small word of state, and no two draws alike.
#[derive(Debug)]
pub struct SeededIds(AtomicU64);

impl SeededIds {
    /// Ids that depend on this seed, on the times asked for, and on the order of asking.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn draw(&self) -> u64 {
        let mut word = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }
}

impl IdSource for SeededIds {
    fn ulid(&self, now: Time) -> Ulid {
        let millis = u64::try_from(now.timestamp_millis()).unwrap_or_default();
        Ulid::from_parts(millis, (u128::from(self.draw()) << 64) | u128::from(self.draw()))
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_ids_without_repetition() {
        let (one, same, other) = (SeededIds::new(7), SeededIds::new(7), SeededIds::new(8));
        let now = DateTime::UNIX_EPOCH;
        let ids: Vec<Ulid> = (0..100).map(|_| one.ulid(now)).collect();
        assert!(ids.iter().all(|id| *id == same.ulid(now)));
        assert!(!ids.contains(&other.ulid(now)));
        let distinct: std::collections::BTreeSet<&Ulid> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert!(one.ulid(now + TimeDelta::milliseconds(1)) > ids[99]);
    }
}
