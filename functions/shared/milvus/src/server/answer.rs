//! The status of the server's answers.

use milvus::proto::{common::Status, milvus as api};

/// An answer that reports in a status whether the call succeeded.
pub(super) trait Answer {
    fn status(&self) -> Option<&Status>;
}

impl Answer for Status {
    fn status(&self) -> Option<&Status> {
        Some(self)
    }
}

/// Implements [`Answer`] for answers that have the status in a field.
macro_rules! have_status {
    ($($answer:ident),+ $(,)?) => {
        $(impl Answer for api::$answer {
            fn status(&self) -> Option<&Status> {
                self.status.as_ref()
            }
        })+
    };
}

have_status!(
    AllocTimestampResponse,
    BackupRbacMetaResponse,
    DescribeAliasResponse,
    DescribeCollectionResponse,
    DescribeDatabaseResponse,
    DescribeIndexResponse,
    FlushResponse,
    GetFlushStateResponse,
    GetImportStateResponse,
    GetLoadStateResponse,
    GetLoadingProgressResponse,
    GetPersistentSegmentInfoResponse,
    GetReplicasResponse,
    GetVersionResponse,
    ImportResponse,
    ListAliasesResponse,
    ListDatabasesResponse,
    ListImportTasksResponse,
    QueryResults,
    SelectGrantResponse,
    SelectRoleResponse,
    SelectUserResponse,
    ShowCollectionsResponse,
    ShowPartitionsResponse,
);
