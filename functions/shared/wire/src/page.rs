//! Pages of listings.

use serde::{Deserialize, Serialize};

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageView<T> {
    /// The items, in the listing's order.
    pub items: Vec<T>,
    /// The cursor of the next page; null at the end.
    pub next_cursor: Option<String>,
}
