//! S3's three cyclic redundancy checks, behind the part of the crate crc-fast that the AWS SDK calls
//! (`aws-smithy-checksums`).
//!
//! This crate replaces crc-fast in this workspace, because its tables for some eighty algorithms added 620 kB of
//! incompressible data to each function's zip. This service checks and requests only CRC-32, for which `crc32fast` uses
//! the processor's own instructions.
#![forbid(unsafe_code)]

use crc::{CRC_32_ISCSI, CRC_64_NVME, Crc, Table};

/// The checksum algorithms.
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

/// A checksum that is updated piece by piece.
pub struct Digest(State);

enum State {
    Crc32(crc32fast::Hasher),
    Castagnoli(crc::Digest<'static, u32, Table<1>>),
    Nvme(crc::Digest<'static, u64, Table<1>>),
}

impl Digest {
    /// Makes the checksum of no bytes.
    pub fn new(algorithm: CrcAlgorithm) -> Self {
        Self(match algorithm {
            CrcAlgorithm::Crc32IsoHdlc => State::Crc32(crc32fast::Hasher::new()),
            CrcAlgorithm::Crc32Iscsi => State::Castagnoli(CASTAGNOLI.digest()),
            CrcAlgorithm::Crc64Nvme => State::Nvme(NVME.digest()),
        })
    }

    /// Adds these bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Crc32(hasher) => hasher.update(bytes),
            State::Castagnoli(digest) => digest.update(bytes),
            State::Nvme(digest) => digest.update(bytes),
        }
    }

    /// The checksum of all bytes; a 32-bit checksum is in the lower half.
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

/// The checksum of these bytes.
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
        // The "check" value of each algorithm in the CRC RevEng catalogue: the checksum of the nine digits.
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
