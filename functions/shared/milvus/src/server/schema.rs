//! Schemas: their fields and the ids of the fields.

use std::collections::HashSet;

use milvault_model::{Capabilities, Capability, FieldCapture, FieldPresence};
use milvault_ports::MilvusError;
use milvus::proto::schema::{CollectionSchema, FieldSchema};

use super::unexpected;

/// The field for values that the schema has no field for.
const DYNAMIC_FIELD: &str = "$meta";

pub(super) fn primary_key(schema: Option<&CollectionSchema>) -> Result<String, MilvusError> {
    let field = schema.and_then(|schema| schema.fields.iter().find(|field| field.is_primary_key));
    field.map(|field| field.name.clone()).ok_or_else(|| unexpected("primary key"))
}

/// The id of the dynamic field, if a description omits the field (`internal/proxy/task.go`, `describeCollectionTask`).
///
/// It is the first id that no other field has, because the server numbered the dynamic field after the fields that the
/// collection was created with and before any field added later (`internal/rootcoord/create_collection_task.go`,
/// `assignFieldAndFunctionID`).
fn dynamic_field(schema: &CollectionSchema) -> Option<i64> {
    /// The ids below are those of the row id and the timestamp.
    const FIRST: i64 = 100;
    let is_left_out = schema.enable_dynamic_field && !schema.fields.iter().any(|field| field.is_dynamic);
    let structs = schema.struct_array_fields.iter();
    let of_structs = structs.flat_map(|of| of.fields.iter().map(|field| field.field_id).chain([of.field_id]));
    let taken: HashSet<i64> = schema.fields.iter().map(|field| field.field_id).chain(of_structs).collect();
    is_left_out.then(|| (FIRST..).find(|id| !taken.contains(id)).unwrap_or(FIRST))
}

/// Takes the fields out of a schema that were added after the collection was created. A server numbers fields in order:
/// first the fields of the create call, then the dynamic field, then each added field.
pub(super) fn take_added_fields(schema: &mut CollectionSchema) -> Vec<FieldSchema> {
    schema.fields.sort_by_key(|field| field.field_id);
    let Some(dynamic) = dynamic_field(schema) else { return Vec::new() };
    let created = schema.fields.partition_point(|field| field.field_id < dynamic);
    schema.fields.split_off(created)
}

/// The fields that have logs, except the row id and the timestamp.
pub(super) fn stored_fields(schema: &CollectionSchema, capabilities: Capabilities) -> Vec<FieldCapture> {
    let presence = |may_be_added| match may_be_added && capabilities.has(Capability::AddedFields) {
        true => FieldPresence::SinceAdded,
        false => FieldPresence::Always,
    };
    let of_structs = schema.struct_array_fields.iter().flat_map(|of| &of.fields);
    let mut fields: Vec<FieldCapture> = schema
        .fields
        .iter()
        .chain(of_structs)
        .map(|field| FieldCapture {
            id: field.field_id,
            name: field.name.clone(),
            // Only a nullable field, or a field with a default, can be added to a collection that has rows.
            presence: presence(field.nullable || field.default_value.is_some()),
        })
        .collect();
    if let Some(id) = dynamic_field(schema) {
        fields.push(FieldCapture { id, name: DYNAMIC_FIELD.to_owned(), presence: presence(true) });
    }
    fields.sort_by_key(|field| field.id);
    fields
}
