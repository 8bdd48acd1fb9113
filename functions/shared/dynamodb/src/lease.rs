//! The condition on a lease item for writes that need the lease.

use aws_sdk_dynamodb::types::AttributeValue;
use milvault_ports::Lease;

/// A lease is ours, even past its end, until somebody else takes it.
pub(crate) const OURS: &str = "fence = :fence AND attribute_exists(heldUntil)";

pub(crate) fn fence(lease: &Lease) -> AttributeValue {
    AttributeValue::N(lease.fence.to_string())
}
