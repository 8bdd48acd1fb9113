//! Usage: which backup each stored byte is billed to, hour by hour, and what an hour costs.
//!
//! A stored object belongs to the oldest living backup that references it. Each backup has an [`Account`] of the bytes
//! that belong to it. For an hour, a backup is billed the bytes that it had when the hour began and the bytes that it
//! stored in that hour. Bytes that it loses in the hour still count, and bytes that it inherits count from the next
//! hour on. So each byte is billed once an hour, to one backup.

mod account;
mod hour;
mod price;
mod record;

pub use account::{Account, AccountError, Metered};
pub use hour::{Hour, Month};
pub use price::{Charge, Currency, Price, Prices};
pub use record::{Correction, CorrectionId, UsageExport, UsageRecord};
