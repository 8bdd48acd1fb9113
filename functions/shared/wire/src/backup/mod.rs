//! The backup object, its description, and the request for a backup.

mod completeness;
mod deletion;
mod description;
mod request;
mod verification;
mod view;

pub use completeness::{CompletenessView, PrincipalView};
pub use deletion::DeletedBackupView;
pub use description::{BackupDescription, CollectionView, DatabaseView, LeftOutCauseView, LeftOutView, databases};
pub use request::BackupRequest;
pub use verification::{VerificationStatus, VerificationView, VerifiedBackupView};
pub use view::BackupView;
