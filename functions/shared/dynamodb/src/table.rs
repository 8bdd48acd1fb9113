//! The table that the catalog is in.

use aws_sdk_dynamodb::Client;

/// The catalog in a DynamoDB table with the keys `PK` and `SK` and the index `due`.
pub struct DynamoCatalog {
    pub(crate) client: Client,
    pub(crate) table: String,
}

impl DynamoCatalog {
    /// Makes the catalog in this table.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }
}
