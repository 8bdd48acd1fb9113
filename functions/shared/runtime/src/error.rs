//! Errors that end an invocation, so that Lambda retries it.

use lambda_runtime::Diagnostic;
use milvault_jobs::Error;
use milvault_ports::CatalogError;

/// An infrastructure fault. It isn't an answer; the invocation has to be retried.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RuntimeError(#[from] pub Error);

impl RuntimeError {
    /// The error's name in logs and in Lambda's answer. It is stable, so that alarms and rules can use it.
    pub fn name(&self) -> &'static str {
        match &self.0 {
            Error::Catalog(CatalogError::Conflict(_)) => "CatalogConflict",
            Error::Catalog(CatalogError::Unavailable(_)) => "CatalogUnavailable",
            Error::Inconsistent(_) => "Inconsistent",
            Error::Document { .. } => "SnapshotDocument",
            Error::LeaseLost => "LeaseLost",
            Error::Milvus(_) => "MilvusUnreachable",
            Error::Objects(_) | Error::NoSnapshotBucket(_) => "StorageUnreachable",
            _ => "Refused",
        }
    }
}

impl From<RuntimeError> for Diagnostic {
    fn from(error: RuntimeError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: error.to_string() }
    }
}
