//! S3's three cyclic redundancy checks, behind as much of the crate crc-fast as the AWS SDK calls
//! (`aws-smithy-checksums`).
//!
//! It stands in for that crate in this workspace: of its tables for some eighty algorithms, 620 kB that can't be compressed
//! were in each function's zip. Ours checks and asks for CRC-32 only, for which `crc32fast` uses the processor's own
//! instructions.
#![forbid(unsafe_code)]

use crc::{CRC_32_ISCSI, CRC_64_NVME, Crc, Table};

/// Which check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrcAlgorithm {
    /// CRC-32, S3's `crc32`.
    Crc32IsoHdlc,
    /// CRC-32C, S3's `crc32c`.
    Crc32Iscsi,
    /// CRC-64/NVME, S3's `crc64nvme`.
    Crc64Nvme,
}

static CASTAGNOLI: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);
static NVME: Crc<u64, Table<1>> = Crc::<u64, Table<1>>::new(&CRC_64_NVME);

/// A check of bytes that come one after the other.
pub struct Digest(State);

enum State {
    Crc32(crc32fast::Hasher),
    Castagnoli(crc::Digest<'static, u32, Table<1>>),
    Nvme(crc::Digest<'static, u64, Table<1>>),
}

impl Digest {
    /// Of nothing yet.
    pub fn new(algorithm: CrcAlgorithm) -> Self {
        Self(match algorithm {
            CrcAlgorithm::Crc32IsoHdlc => State::Crc32(crc32fast::Hasher::new()),
            CrcAlgorithm::Crc32Iscsi => State::Castagnoli(CASTAGNOLI.digest()),
            CrcAlgorithm::Crc64Nvme => State::Nvme(NVME.digest()),
        })
    }

    /// These bytes too.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Crc32(hasher) => hasher.update(bytes),
            State::Castagnoli(digest) => digest.update(bytes),
            State::Nvme(digest) => digest.update(bytes),
        }
    }

    /// The check of all of them, in the lower half for 32 bits.
    pub fn finalize(self) -> u64 {
        match self.0 {
            State::Crc32(hasher) => hasher.finalize().into(),
            State::Castagnoli(digest) => digest.finalize().into(),
            State::Nvme(digest) => digest.finalize(),
        }
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Digest").finish_non_exhaustive()
    }
}

/// The check of these bytes.
pub fn checksum(algorithm: CrcAlgorithm, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new(algorithm);
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_the_check_value_of_the_catalogue() {
        // "check" of each algorithm in the CRC RevEng catalogue: of the nine digits.
        for (algorithm, check) in [
            (CrcAlgorithm::Crc32IsoHdlc, 0xCBF4_3926),
            (CrcAlgorithm::Crc32Iscsi, 0xE306_9283),
            (CrcAlgorithm::Crc64Nvme, 0xAE8B_1486_0A79_9888),
        ] {
            assert_eq!(checksum(algorithm, b"123456789"), check, "{algorithm:?}");
            let mut digest = Digest::new(algorithm);
            for part in [b"12345".as_slice(), b"", b"6789"] {
                digest.update(part);
            }
            assert_eq!(digest.finalize(), check, "{algorithm:?} in parts");
        }
    }
}
