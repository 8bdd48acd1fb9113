//! The Milvus port's calls over gRPC.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};

use milvault_model::{
    Capabilities, Capability, CollectionCapture, CollectionName, FieldCapture, FieldPresence, Grant, IndexCapture,
    Loaded, PartitionCapture, PrimaryKey, Principal, SegmentLevel, StorageVersion, Time, Visibility, time_of,
};
use milvault_ports::{
    CollectionDescription, FlushResult, GarbageHold, ImportRequest, ImportStatus, ImportTasks, Milvus, MilvusError,
    OnRateLimit, Pace, Segment, SegmentFiles,
};
use milvus::proto::{
    common::{self, ConsistencyLevel, ImportState, IndexState, KeyValuePair, LoadState, SegmentState, Status},
    milvus::{self as api, milvus_service_client::MilvusServiceClient},
    schema::{CollectionSchema, FieldSchema, field_data, scalar_field},
};
use prost::Message;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};
use tonic::Request;

use crate::{
    access::{self, missing},
    authorized::Authorized,
    credentials::Login,
    errors::{DATABASE_NOT_FOUND, NO_ALIAS, SEGMENT_NOT_FOUND, check, transport},
    imports::import_files,
    principal::{ROOT, RootCheck, User, filters_lists, unsure},
    rest::Rest,
};

/// The maximum size of an answer. A description of 16,000 collections or of thousands of segments exceeds gRPC's
/// default of 4 MB.
const LARGEST_ANSWER: usize = 256 << 20;

/// How long a flush is retried while its rate is limited.
const RATE_LIMIT: Duration = Duration::from_secs(120);
/// The first pause before a rate-limited flush is retried. It doubles up to the longest pause. By default, a collection
/// may be flushed once in ten seconds, from 2.3.9 on (`pkg/util/paramtable/quota_param.go`).
const RATE_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_RATE_PAUSE: Duration = Duration::from_secs(8);

/// How often the list of segments is requested if a segment is dropped while the server makes the list.
const SEGMENT_TRIES: u32 = 20;
const SEGMENT_PAUSE: Duration = Duration::from_millis(100);

/// The field for values that the schema has no field for.
const DYNAMIC_FIELD: &str = "$meta";

/// The partition that every collection has.
const DEFAULT_PARTITION: &str = "_default";

pub(crate) struct Server {
    client: MilvusServiceClient<Authorized>,
    /// A client without credentials.
    anonymous: MilvusServiceClient<Authorized>,
    /// The credentials of the calls, if there are any.
    login: Option<Arc<Login>>,
    rest: Rest,
    version: OnceCell<String>,
}

impl Server {
    pub(crate) fn new(channel: Authorized, login: Option<Arc<Login>>, rest: Rest) -> Self {
        let anonymous = MilvusServiceClient::new(channel.anonymous());
        let client = MilvusServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
        Self { client, anonymous, login, rest, version: OnceCell::new() }
    }

    fn client(&self) -> MilvusServiceClient<Authorized> {
        self.client.clone()
    }

    /// Makes a request for this database.
    fn request<T>(&self, database: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        // Database names are ASCII. The server rejects another name because of the field in the message.
        if let Ok(database) = database.parse() {
            request.metadata_mut().insert("dbname", database);
        }
        request
    }

    async fn describe_raw(&self, name: &CollectionName) -> Result<api::DescribeCollectionResponse, MilvusError> {
        let message = api::DescribeCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        let answer = self.client().describe_collection(self.request(&name.database, message)).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        match check(answer.status.as_ref(), Some(name)) {
            Ok(()) => Ok(answer),
            Err(MilvusError::NoCollection(_)) => Err(self.really_missing(name).await),
            Err(error) => Err(error),
        }
    }

    /// The error for a collection that was reported missing. A server that is starting reports existing collections as
    /// missing, so the collection has to be missing from the list of all collections too.
    async fn really_missing(&self, name: &CollectionName) -> MilvusError {
        match self.collections(&name.database).await {
            Ok(listed) if listed.iter().any(|(listed, _)| *listed == name.collection) => {
                MilvusError::NotReady(format!("{name} is listed, but can't be described"))
            }
            Ok(_) => MilvusError::NoCollection(name.clone()),
            Err(error) => error,
        }
    }

    /// Checks that an answer about a collection reports success. A missing collection is confirmed with the component
    /// that keeps the list of all collections.
    async fn check_for(&self, status: Option<&Status>, name: &CollectionName) -> Result<(), MilvusError> {
        match check(status, Some(name)) {
            Err(MilvusError::NoCollection(_)) => Err(match self.describe_raw(name).await {
                Ok(_) => MilvusError::NotReady(format!("{name} isn't known to every part of the server yet")),
                Err(error) => error,
            }),
            result => result,
        }
    }

    /// The partitions by name, either all of them or the loaded ones.
    async fn partitions(
        &self,
        name: &CollectionName,
        which: api::ShowType,
    ) -> Result<Vec<PartitionCapture>, MilvusError> {
        #[expect(deprecated, reason = "the only call of the 2.3 line that tells the loaded partitions from the others")]
        let message = api::ShowPartitionsRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            r#type: which as i32,
            ..Default::default()
        };
        let answer = self.client().show_partitions(self.request(&name.database, message)).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        self.check_for(answer.status.as_ref(), name).await?;
        let pairs = answer.partition_names.into_iter().zip(answer.partition_i_ds);
        let mut partitions: Vec<_> = pairs.map(|(name, id)| PartitionCapture { name, id }).collect();
        partitions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(partitions)
    }

    async fn persistent_segments(
        &self,
        name: &CollectionName,
    ) -> Result<api::GetPersistentSegmentInfoResponse, MilvusError> {
        let message = api::GetPersistentSegmentInfoRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        let answer = self.client().get_persistent_segment_info(self.request(&name.database, message)).await;
        Ok(answer.map_err(|status| transport(&status))?.into_inner())
    }

    async fn index_descriptions(&self, name: &CollectionName) -> Result<Vec<api::IndexDescription>, MilvusError> {
        /// `IndexNotFound`, and its old code.
        const NO_INDEX: i32 = 700;
        const NO_INDEX_OLD: i32 = 25;
        let message = api::DescribeIndexRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        let answer = self.client().describe_index(self.request(&name.database, message)).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        #[expect(deprecated, reason = "servers of the 2.3 line answer with the old code too")]
        let none = answer.status.as_ref().is_some_and(|s| s.code == NO_INDEX || s.error_code == NO_INDEX_OLD);
        if none {
            return Ok(Vec::new());
        }
        self.check_for(answer.status.as_ref(), name).await?;
        Ok(answer.index_descriptions)
    }

    async fn load_answer(&self, name: &CollectionName) -> Result<api::GetLoadStateResponse, MilvusError> {
        let message = api::GetLoadStateRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        let answer = self.client().get_load_state(self.request(&name.database, message)).await;
        Ok(answer.map_err(|status| transport(&status))?.into_inner())
    }

    async fn load_state(&self, name: &CollectionName) -> Result<LoadState, MilvusError> {
        let answer = self.load_answer(name).await?;
        self.check_for(answer.status.as_ref(), name).await?;
        Ok(answer.state())
    }

    async fn loaded(&self, name: &CollectionName, id: i64, all: &[PartitionCapture]) -> Result<Loaded, MilvusError> {
        let answer = self.load_answer(name).await?;
        match check(answer.status.as_ref(), Some(name)) {
            // For a day after a failed load, the answer is the reason of the failure (`ShowCollections` in
            // `internal/querycoordv2/services.go`, 2.4 and 2.5). A server that isn't ready reports that it is
            // unreachable.
            Err(error @ (MilvusError::NotReady(_) | MilvusError::Refused(_))) => {
                tracing::warn!(%error, collection = %name, "not loaded, because its load failed");
                return Ok(Loaded::No);
            }
            _ => self.check_for(answer.status.as_ref(), name).await?,
        }
        if !matches!(answer.state(), LoadState::Loaded | LoadState::Loading) {
            return Ok(Loaded::No);
        }
        let message =
            api::GetReplicasRequest { db_name: name.database.clone(), collection_id: id, ..Default::default() };
        let answer = self.client().get_replicas(self.request(&name.database, message)).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        match check(answer.status.as_ref(), Some(name)) {
            // A backup shouldn't fail because the replicas can't be counted.
            Err(error @ MilvusError::NotReady(_)) => {
                tracing::warn!(%error, collection = %name, "its replicas can't be counted; assuming one");
            }
            _ => self.check_for(answer.status.as_ref(), name).await?,
        }
        let replicas = i32::try_from(answer.replicas.len().max(1)).unwrap_or(1);
        let names: Vec<String> =
            self.partitions(name, api::ShowType::InMemory).await?.into_iter().map(|p| p.name).collect();
        Ok(if all.iter().all(|partition| names.contains(&partition.name)) {
            Loaded::Whole { replicas }
        } else {
            Loaded::Partitions { replicas, names }
        })
    }

    /// The aliases of the collection with exactly this name, from the component that keeps them, because descriptions
    /// of 2.6 may have outdated aliases (`CachedProxyServiceProvider` in `internal/proxy/service_provider.go`). `None`
    /// if the server doesn't offer the call.
    async fn aliases(&self, name: &CollectionName) -> Result<Option<Vec<String>>, MilvusError> {
        let message = api::ListAliasesRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        let answer = match self.client().list_aliases(self.request(&name.database, message)).await {
            // A call that a managed service doesn't offer, or that this user may not make; the description's aliases
            // are used instead.
            Err(status) if is_not_offered(&status) => return Ok(None),
            answer => answer.map_err(|status| transport(&status))?.into_inner(),
        };
        if is_unimplemented(answer.status.as_ref()) {
            return Ok(None);
        }
        self.check_for(answer.status.as_ref(), name).await?;
        let mut aliases = answer.aliases;
        aliases.sort();
        Ok(Some(aliases))
    }

    /// The server's version, requested once per connection.
    async fn known_version(&self) -> Result<&str, MilvusError> {
        Ok(self.version.get_or_try_init(|| self.version()).await?)
    }

    /// The server's capabilities.
    async fn capabilities(&self) -> Result<Capabilities, MilvusError> {
        Ok(Capabilities::of_reported(self.known_version().await?))
    }

    /// Succeeds if the server requires no credentials, because it answers a call without any.
    ///
    /// With authorization on, every call needs credentials (`AuthenticationInterceptor` in
    /// `internal/proxy/authentication_interceptor.go`, 2.3 to 2.6). With it off, credentials are ignored.
    async fn require_no_credentials(&self) -> Result<(), MilvusError> {
        let answer = self.anonymous.clone().list_databases(Request::new(api::ListDatabasesRequest::default())).await;
        check(answer.map_err(|status| transport(&status))?.into_inner().status.as_ref(), None)
    }

    /// The roles bound to a user. Without a user, the result is empty, and success means that all users may be listed.
    ///
    /// Every user may ask about themselves (`isCurUserObject` in `internal/proxy/privilege_interceptor.go`, 2.3 to
    /// 2.6).
    async fn roles_of(&self, user: Option<&str>) -> Result<Vec<String>, MilvusError> {
        let message = api::SelectUserRequest {
            user: user.map(|name| api::UserEntity { name: name.to_owned() }),
            include_role_info: user.is_some(),
            ..Default::default()
        };
        let answer = self.client().select_user(self.request("default", message)).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        check(answer.status.as_ref(), None)?;
        let of = answer.results.into_iter().find(|result| result.user.as_ref().map(|of| of.name.as_str()) == user);
        Ok(of.map(|result| result.roles.into_iter().map(|role| role.name).collect()).unwrap_or_default())
    }

    /// A role's grants in a database, or in all databases (`*`). Every user may ask about their own roles
    /// (`isSelectMyRoleGrants` in `internal/proxy/privilege_interceptor.go`, 2.4 to 2.6).
    ///
    /// The request names no object. If it did, the server would omit privilege groups, which it keeps on another kind
    /// of object (`OperatePrivilege` in `internal/rootcoord/root_coord.go`, 2.5), and would look for aliases first
    /// (2.6).
    async fn granted(&self, role: &str, database: &str) -> Result<Vec<api::GrantEntity>, MilvusError> {
        let entity = api::GrantEntity {
            role: Some(api::RoleEntity { name: role.to_owned(), ..Default::default() }),
            db_name: database.to_owned(),
            ..Default::default()
        };
        let message = api::SelectGrantRequest { entity: Some(entity), ..Default::default() };
        let answer = self.client().select_grant(self.request("default", message)).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        check(answer.status.as_ref(), None)?;
        Ok(answer.entities)
    }

    /// The facts that decide what a user sees.
    async fn user<'a>(&self, name: &'a str) -> Result<User<'a>, MilvusError> {
        let roles = self.roles_of(Some(name)).await?;
        let mut user = User { name, roles, grants: Vec::new(), root: RootCheck::Checked };
        if user.is_admin() {
            return Ok(user);
        }
        for role in user.counted_roles().cloned().collect::<Vec<_>>() {
            user.grants.extend(self.granted(&role, "*").await?);
        }
        if name == ROOT {
            user.root = match self.roles_of(None).await {
                Ok(_) => RootCheck::PassesUnchecked,
                Err(error) if error.is_refusal() => RootCheck::Checked,
                Err(error) => return Err(error),
            };
        }
        Ok(user)
    }

    async fn rbac(&self) -> Result<api::RbacMeta, MilvusError> {
        let answer = self.client().backup_rbac(self.request("default", api::BackupRbacMetaRequest::default())).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        check(answer.status.as_ref(), None)?;
        Ok(answer.rbac_meta.unwrap_or_default())
    }

    /// The values of one field in the rows that a strongly consistent query finds.
    async fn query(
        &self,
        name: &CollectionName,
        field: &str,
        expression: String,
        limit: Option<usize>,
    ) -> Result<Option<scalar_field::Data>, MilvusError> {
        let limit = limit.map(|limit| KeyValuePair { key: "limit".to_owned(), value: limit.to_string() });
        let message = api::QueryRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            expr: expression,
            output_fields: vec![field.to_owned()],
            consistency_level: ConsistencyLevel::Strong as i32,
            query_params: limit.into_iter().collect(),
            ..Default::default()
        };
        let answer = self.client().query(self.request(&name.database, message)).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        self.check_for(answer.status.as_ref(), name).await?;
        let found = answer.fields_data.into_iter().find(|found| field == "count(*)" || found.field_name == field);
        Ok(found.and_then(|found| match found.field? {
            field_data::Field::Scalars(scalars) => scalars.data,
            _ => None,
        }))
    }

    /// Requests a flush, and returns the segments that have to be in object storage before it is over.
    async fn seal(&self, name: &CollectionName) -> Result<FlushResult, MilvusError> {
        let message = api::FlushRequest {
            db_name: name.database.clone(),
            collection_names: vec![name.collection.clone()],
            ..Default::default()
        };
        let answer = self.client().flush(self.request(&name.database, message)).await;
        let mut answer = answer.map_err(|status| transport(&status))?.into_inner();
        self.check_for(answer.status.as_ref(), name).await?;
        // The timestamp up to which the named segments hold all rows (`internal/datacoord/services.go` and, in 2.6,
        // `internal/proxy/task_flush_streaming.go`). `channel_cps`, from 2.4 on, are the channels' checkpoints before
        // the sealing. They are earlier, and only useful for reading the channels from there on.
        let timestamp = answer.coll_flush_ts.get(&name.collection).copied();
        let timestamp = match timestamp.ok_or_else(|| unexpected("flush timestamp"))? {
            // This happens while data nodes of 2.2 are being replaced, according to the same source.
            0 => {
                return Err(MilvusError::Unreachable("the flush has no timestamp: an upgrade is under way".to_owned()));
            }
            timestamp => timestamp,
        };
        let take = |ids: Option<milvus::proto::schema::LongArray>| ids.map(|ids| ids.data).unwrap_or_default();
        Ok(FlushResult {
            timestamp,
            sealed: take(answer.coll_seg_i_ds.remove(&name.collection)),
            flushed: take(answer.flush_coll_seg_i_ds.remove(&name.collection)),
        })
    }

    /// Requires that the name still refers to the collection with this id.
    async fn require_same(&self, name: &CollectionName, id: i64) -> Result<(), MilvusError> {
        match self.describe_raw(name).await?.collection_id {
            now if now == id => Ok(()),
            _ => Err(MilvusError::NoCollection(name.clone())),
        }
    }
}

/// Whether the server doesn't offer a call, or not to this user.
fn is_not_offered(status: &tonic::Status) -> bool {
    matches!(status.code(), tonic::Code::Unimplemented | tonic::Code::PermissionDenied)
}

/// Whether the server knows a call but doesn't implement it: 2.3.4 answers this way about aliases
/// (`internal/proxy/impl.go`).
fn is_unimplemented(status: Option<&Status>) -> bool {
    status.is_some_and(|status| status.reason.contains("unimplemented"))
}

fn pairs(params: &[(String, String)]) -> Vec<KeyValuePair> {
    params.iter().map(|(key, value)| KeyValuePair { key: key.clone(), value: value.clone() }).collect()
}

fn from_pairs(pairs: Vec<KeyValuePair>) -> Vec<(String, String)> {
    pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
}

fn primary_key(schema: Option<&CollectionSchema>) -> Result<String, MilvusError> {
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
fn take_added_fields(schema: &mut CollectionSchema) -> Vec<FieldSchema> {
    schema.fields.sort_by_key(|field| field.field_id);
    let Some(dynamic) = dynamic_field(schema) else { return Vec::new() };
    let created = schema.fields.partition_point(|field| field.field_id < dynamic);
    schema.fields.split_off(created)
}

/// The fields that have logs, except the row id and the timestamp.
fn stored_fields(schema: &CollectionSchema, capabilities: Capabilities) -> Vec<FieldCapture> {
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

fn keys(found: Option<scalar_field::Data>) -> Vec<PrimaryKey> {
    match found {
        Some(scalar_field::Data::LongData(longs)) => longs.data.into_iter().map(PrimaryKey::Int).collect(),
        Some(scalar_field::Data::StringData(texts)) => texts.data.into_iter().map(PrimaryKey::Text).collect(),
        _ => Vec::new(),
    }
}

fn unexpected(what: &str) -> MilvusError {
    MilvusError::Refused(format!("the server's answer has no {what}"))
}

/// Converts a segment for the jobs.
///
/// A segment that is "flushing" counts as flushed, as it does in the server's own check whether a flush is over: its
/// logs are stored and in the metadata (`isFlushState` in `internal/datacoord/meta.go`, used by `GetFlushState` in
/// `services.go`).
fn segment(info: &api::PersistentSegmentInfo) -> Segment {
    Segment {
        id: info.segment_id,
        collection_id: info.collection_id,
        partition_id: info.partition_id,
        rows: u64::try_from(info.num_rows).unwrap_or_default(),
        is_flushed: matches!(info.state(), SegmentState::Flushed | SegmentState::Flushing),
        is_sorted: info.is_sorted,
        level: match info.level() {
            common::SegmentLevel::L0 => SegmentLevel::L0,
            // Servers without levels answer "Legacy".
            common::SegmentLevel::Legacy | common::SegmentLevel::L1 | common::SegmentLevel::L2 => SegmentLevel::Data,
        },
        storage: StorageVersion::from(info.storage_version),
    }
}

/// Whether an index can be created with this name. The server names indexes of JSON paths itself, such as `meta/a/b`,
/// and doesn't accept such names from clients. Without a name, it makes the same one again.
///
/// `validateIndexName` in `internal/proxy/util.go` (2.5).
fn can_be_given(index_name: &str) -> bool {
    let is_word = |c: u8| c == b'_' || c.is_ascii_alphanumeric();
    index_name.bytes().all(is_word) && !index_name.bytes().next().is_none_or(|first| first.is_ascii_digit())
}

impl Server {
    /// Requires that the proxy reaches the root coordinator.
    ///
    /// While the server is starting and the root coordinator can't be reached, a call about imports makes the proxy of
    /// 2.3.5 dereference the missing answer, and the whole server ends (`internal/proxy/impl.go`, `GetImportState`;
    /// observed).
    async fn require_coordinator(&self) -> Result<(), MilvusError> {
        self.databases().await.map(drop)
    }
}

#[async_trait]
impl Milvus for Server {
    async fn version(&self) -> Result<String, MilvusError> {
        let answer = self.client().get_version(self.request("default", api::GetVersionRequest {})).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        check(answer.status.as_ref(), None)?;
        Ok(answer.version)
    }

    // The time that the root coordinator stamps rows with: milliseconds above 18 bits of a counter
    // (`pkg/util/tsoutil/tso.go`).
    async fn clock(&self) -> Result<Option<Time>, MilvusError> {
        let asked = self.client().alloc_timestamp(self.request("default", api::AllocTimestampRequest::default())).await;
        let answer = match asked {
            // A managed service may not offer this call.
            Err(status) if status.code() == tonic::Code::Unimplemented => return Ok(None),
            asked => asked.map_err(|status| transport(&status))?.into_inner(),
        };
        check(answer.status.as_ref(), None)?;
        Ok(time_of(answer.timestamp))
    }

    async fn principal(&self) -> Result<Principal, MilvusError> {
        match self.require_no_credentials().await {
            Ok(()) => return Ok(Principal { user: None, visibility: Visibility::Everything }),
            Err(error @ (MilvusError::Unreachable(_) | MilvusError::NotReady(_) | MilvusError::RateLimited(_))) => {
                return Err(error);
            }
            Err(error) if self.login.is_none() => return Err(error),
            Err(_) => {}
        }
        let version = self.known_version().await?;
        let user = self.login.as_ref().and_then(|login| login.known().credentials.user());
        let visibility = match &user {
            _ if !filters_lists(version) => Visibility::Everything,
            None => unsure(
                "the registered token has no user name, so that it can't be found out whether it sees every collection"
                    .to_owned(),
            ),
            Some(name) => match self.user(name).await {
                Ok(user) => user.visibility(version),
                Err(MilvusError::Forbidden(reason) | MilvusError::Refused(reason)) => {
                    unsure(format!("the server doesn't tell what the user '{name}' may see: {reason}"))
                }
                Err(error) => return Err(error),
            },
        };
        Ok(Principal { user, visibility })
    }

    async fn databases(&self) -> Result<Vec<String>, MilvusError> {
        let answer = self.client().list_databases(self.request("default", api::ListDatabasesRequest::default())).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        check(answer.status.as_ref(), None)?;
        let mut names = answer.db_names;
        names.sort();
        Ok(names)
    }

    async fn database_properties(&self, database: &str) -> Result<Vec<(String, String)>, MilvusError> {
        if !self.capabilities().await?.has(Capability::DescribeDatabase) {
            return Ok(Vec::new());
        }
        let message = api::DescribeDatabaseRequest { db_name: database.to_owned(), ..Default::default() };
        let answer = match self.client().describe_database(self.request(database, message)).await {
            // A managed service may not offer this call.
            Err(status) if status.code() == tonic::Code::Unimplemented => return Ok(Vec::new()),
            answer => answer.map_err(|status| transport(&status))?.into_inner(),
        };
        match check(answer.status.as_ref(), None) {
            Ok(()) => Ok(from_pairs(answer.properties)),
            Err(MilvusError::Refused(_)) if !self.databases().await?.iter().any(|name| name == database) => {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    async fn ensure_database(&self, database: &str, properties: &[(String, String)]) -> Result<(), MilvusError> {
        if self.databases().await?.iter().any(|name| name == database) {
            return Ok(());
        }
        let message = api::CreateDatabaseRequest {
            db_name: database.to_owned(),
            properties: pairs(properties),
            ..Default::default()
        };
        let answer = self.client().create_database(self.request("default", message)).await;
        match check(Some(&answer.map_err(|status| transport(&status))?.into_inner()), None) {
            // Somebody else created it at the same moment.
            Err(MilvusError::Refused(_)) if self.databases().await?.iter().any(|name| name == database) => Ok(()),
            result => result,
        }
    }

    async fn access_control(&self) -> Result<Option<String>, MilvusError> {
        if !self.capabilities().await?.has(Capability::Rbac) {
            return Ok(None);
        }
        Ok(Some(access::encode(&self.rbac().await?)))
    }

    async fn restore_access_control(&self, captured: &str) -> Result<Vec<String>, MilvusError> {
        if !self.capabilities().await?.has(Capability::Rbac) {
            return Err(MilvusError::Refused("it has no calls for them".to_owned()));
        }
        let (missing, names) = missing(access::decode(captured)?, &self.rbac().await?);
        if names.is_empty() {
            return Ok(names);
        }
        let message = api::RestoreRbacMetaRequest { rbac_meta: Some(missing), ..Default::default() };
        let answer = self.client().restore_rbac(self.request("default", message)).await;
        check(Some(&answer.map_err(|status| transport(&status))?.into_inner()), None)?;
        Ok(names)
    }

    fn captured_grants(&self, captured: &str) -> Result<Vec<Grant>, MilvusError> {
        Ok(access::decode(captured)?.grants.into_iter().map(access::grant).collect())
    }

    async fn roles(&self) -> Result<Vec<String>, MilvusError> {
        let answer = self.client().select_role(self.request("default", api::SelectRoleRequest::default())).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        check(answer.status.as_ref(), None)?;
        Ok(answer.results.into_iter().filter_map(|result| result.role).map(|role| role.name).collect())
    }

    async fn grants(&self, role: &str, database: &str) -> Result<Vec<Grant>, MilvusError> {
        Ok(self.granted(role, database).await?.into_iter().map(access::grant).collect())
    }

    async fn grant(&self, grant: &Grant) -> Result<(), MilvusError> {
        let entity = access::entity(grant);
        let (role, grantor) = (entity.role.clone(), entity.grantor.clone());
        let message = api::OperatePrivilegeRequest {
            entity: Some(entity),
            r#type: api::OperatePrivilegeType::Grant as i32,
            ..Default::default()
        };
        let answer = self.client().operate_privilege(self.request("default", message)).await;
        match check(Some(&answer.map_err(|status| transport(&status))?.into_inner()), None) {
            // It is a group of privileges, which needs the newer call (`isValidPrivilege` in
            // `internal/rootcoord/root_coord.go`, 2.5). The newer call has no kind of object, and derives the kind of
            // any other privilege from the privilege itself.
            Err(MilvusError::Refused(_)) if grant.object == "Global" => {}
            result => return result,
        }
        let message = api::OperatePrivilegeV2Request {
            role,
            grantor,
            r#type: api::OperatePrivilegeType::Grant as i32,
            db_name: grant.database.clone(),
            collection_name: grant.name.clone(),
            ..Default::default()
        };
        let answer = self.client().operate_privilege_v2(self.request("default", message)).await;
        check(Some(&answer.map_err(|status| transport(&status))?.into_inner()), None)
    }

    async fn collections(&self, database: &str) -> Result<Vec<(String, i64)>, MilvusError> {
        let message = api::ShowCollectionsRequest { db_name: database.to_owned(), ..Default::default() };
        let answer = self.client().show_collections(self.request(database, message)).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        if answer.status.as_ref().is_some_and(|status| status.code == DATABASE_NOT_FOUND) {
            return Ok(Vec::new());
        }
        check(answer.status.as_ref(), None)?;
        let mut found: Vec<_> = answer.collection_names.into_iter().zip(answer.collection_ids).collect();
        found.sort();
        Ok(found)
    }

    async fn collection_id(&self, name: &CollectionName) -> Result<Option<i64>, MilvusError> {
        match self.describe_raw(name).await {
            // Under an alias, the server describes the collection that the alias refers to, whose name is in the
            // schema.
            Ok(answer) => {
                let schema = answer.schema.ok_or_else(|| unexpected("schema"))?;
                Ok((schema.name == name.collection).then_some(answer.collection_id))
            }
            Err(MilvusError::NoCollection(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn describe(&self, name: &CollectionName) -> Result<CollectionDescription, MilvusError> {
        let answer = self.describe_raw(name).await?;
        let schema = answer.schema.ok_or_else(|| unexpected("schema"))?;
        let primary_key = primary_key(Some(&schema))?;
        let name = CollectionName::new(&name.database, schema.name.clone());
        let partitions = self.partitions(&name, api::ShowType::All).await?;
        let indexes = self
            .index_descriptions(&name)
            .await?
            .into_iter()
            .map(|index| IndexCapture {
                name: index.index_name,
                field: index.field_name,
                params: from_pairs(index.params),
            })
            .collect();
        let mut described = answer.aliases;
        described.sort();
        let aliases = self.aliases(&name).await?.unwrap_or(described);
        let loaded = self.loaded(&name, answer.collection_id, &partitions).await?;
        // Each of these calls goes by name. All of them are about one collection if the name still refers to the same
        // one.
        self.require_same(&name, answer.collection_id).await?;
        Ok(CollectionDescription {
            id: answer.collection_id,
            loaded,
            name,
            fields: stored_fields(&schema, self.capabilities().await?),
            primary_key,
            has_partition_key: schema.fields.iter().any(|field| field.is_partition_key),
            schema: schema.encode_to_vec(),
            shards: answer.shards_num,
            consistency_level: answer.consistency_level,
            properties: from_pairs(answer.properties),
            partitions,
            indexes,
            aliases,
        })
    }

    async fn flush(&self, name: &CollectionName, on_limit: OnRateLimit) -> Result<FlushResult, MilvusError> {
        let began = Instant::now();
        let mut pause = RATE_PAUSE;
        loop {
            match self.seal(name).await {
                Err(MilvusError::RateLimited(_)) if on_limit == OnRateLimit::Wait && began.elapsed() < RATE_LIMIT => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_RATE_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// A flush is over when its segments are in object storage and every channel has been read and stored up to its
    /// timestamp, so that L0 segments with earlier deletes are stored too.
    async fn is_flushed(&self, name: &CollectionName, flush: &FlushResult) -> Result<bool, MilvusError> {
        let message = api::GetFlushStateRequest {
            segment_i_ds: flush.named().collect(),
            flush_ts: flush.timestamp,
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
        };
        let answer = self.client().get_flush_state(self.request(&name.database, message)).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        self.check_for(answer.status.as_ref(), name).await?;
        Ok(answer.flushed)
    }

    async fn segments(&self, name: &CollectionName) -> Result<Vec<Segment>, MilvusError> {
        for _ in 1..SEGMENT_TRIES {
            let answer = self.persistent_segments(name).await?;
            // The server first lists the ids and then looks up each one (`GetPersistentSegmentInfo` in
            // `internal/proxy/impl.go`). If a segment is dropped in between, the whole answer fails.
            if answer.status.as_ref().is_some_and(|status| status.code == SEGMENT_NOT_FOUND) {
                sleep(SEGMENT_PAUSE).await;
                continue;
            }
            self.check_for(answer.status.as_ref(), name).await?;
            let infos = answer.infos.iter().filter(|info| info.state() != SegmentState::Dropped);
            return Ok(infos.map(segment).collect());
        }
        Err(MilvusError::NotReady(format!("the segments of {name} change while they are listed")))
    }

    async fn segment_files(
        &self,
        database: &str,
        collection_id: i64,
        segments: &[i64],
    ) -> Result<Option<Vec<SegmentFiles>>, MilvusError> {
        if !self.capabilities().await?.has(Capability::SegmentFiles) {
            return Ok(None);
        }
        self.rest.segment_files(database, collection_id, segments).await
    }

    async fn hold_garbage(&self, duration: Duration) -> Result<GarbageHold, MilvusError> {
        self.rest.hold_garbage(duration).await
    }

    async fn release_garbage(&self, hold: &GarbageHold) -> Result<(), MilvusError> {
        self.rest.release_garbage(hold).await
    }

    async fn count(&self, name: &CollectionName) -> Result<u64, MilvusError> {
        let count = self.query(name, "count(*)", String::new(), None).await?.and_then(|found| match found {
            scalar_field::Data::LongData(longs) => longs.data.first().copied(),
            _ => None,
        });
        count.and_then(|count| u64::try_from(count).ok()).ok_or_else(|| unexpected("count"))
    }

    async fn some_keys(&self, name: &CollectionName, limit: usize) -> Result<Vec<PrimaryKey>, MilvusError> {
        let field = primary_key(self.describe_raw(name).await?.schema.as_ref())?;
        Ok(keys(self.query(name, &field, String::new(), Some(limit)).await?))
    }

    async fn find_keys(&self, name: &CollectionName, sought: &[PrimaryKey]) -> Result<Vec<PrimaryKey>, MilvusError> {
        let field = primary_key(self.describe_raw(name).await?.schema.as_ref())?;
        // Milvus reads strings in an expression as Go does, which accepts JSON's escapes.
        let list = serde_json::to_string(sought).map_err(|error| MilvusError::Refused(error.to_string()))?;
        Ok(keys(self.query(name, &field, format!("{field} in {list}"), None).await?))
    }

    async fn create(&self, name: &CollectionName, capture: &CollectionCapture) -> Result<(), MilvusError> {
        let damaged =
            |reason: String| MilvusError::Refused(format!("the backup's schema of {}: {reason}", capture.name));
        let schema = BASE64_STANDARD.decode(&capture.schema).map_err(|error| damaged(error.to_string()))?;
        let mut schema = CollectionSchema::decode(schema.as_slice()).map_err(|error| damaged(error.to_string()))?;
        schema.name.clone_from(&name.collection);
        let added = take_added_fields(&mut schema);
        let by_key = i64::try_from(capture.partitions.len()).unwrap_or_default();
        let message = api::CreateCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            schema: schema.encode_to_vec(),
            shards_num: capture.shards,
            consistency_level: capture.consistency_level,
            properties: pairs(&capture.properties),
            num_partitions: if capture.has_partition_key { by_key } else { 0 },
            ..Default::default()
        };
        let answer = self.client().create_collection(self.request(&name.database, message)).await;
        check(Some(&answer.map_err(|status| transport(&status))?.into_inner()), None)?;
        for field in added {
            let message = api::AddCollectionFieldRequest {
                db_name: name.database.clone(),
                collection_name: name.collection.clone(),
                schema: field.encode_to_vec(),
                ..Default::default()
            };
            let answer = self.client().add_collection_field(self.request(&name.database, message)).await;
            self.check_for(Some(&answer.map_err(|status| transport(&status))?.into_inner()), name).await?;
        }
        if capture.has_partition_key {
            return Ok(());
        }
        for partition in capture.partitions.iter().filter(|partition| partition.name != DEFAULT_PARTITION) {
            let message = api::CreatePartitionRequest {
                db_name: name.database.clone(),
                collection_name: name.collection.clone(),
                partition_name: partition.name.clone(),
                ..Default::default()
            };
            let answer = self.client().create_partition(self.request(&name.database, message)).await;
            self.check_for(Some(&answer.map_err(|status| transport(&status))?.into_inner()), name).await?;
        }
        Ok(())
    }

    async fn ensure_index(&self, name: &CollectionName, index: &IndexCapture) -> Result<(), MilvusError> {
        let message = api::CreateIndexRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            field_name: index.field.clone(),
            extra_params: pairs(&index.params),
            index_name: if can_be_given(&index.name) { index.name.clone() } else { String::new() },
            ..Default::default()
        };
        let answer = self.client().create_index(self.request(&name.database, message)).await;
        self.check_for(Some(&answer.map_err(|status| transport(&status))?.into_inner()), name).await
    }

    async fn set_properties(&self, name: &CollectionName, properties: &[(String, String)]) -> Result<(), MilvusError> {
        let message = api::AlterCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            properties: pairs(properties),
            ..Default::default()
        };
        let answer = self.client().alter_collection(self.request(&name.database, message)).await;
        self.check_for(Some(&answer.map_err(|status| transport(&status))?.into_inner()), name).await
    }

    async fn indexing(&self, name: &CollectionName) -> Result<Pace, MilvusError> {
        let indexes = self.index_descriptions(name).await?;
        if let Some(failed) = indexes.iter().find(|index| index.state() == IndexState::Failed) {
            let reason = &failed.index_state_fail_reason;
            return Err(MilvusError::Refused(format!("index {} of {name} failed: {reason}", failed.index_name)));
        }
        let is_built =
            |index: &api::IndexDescription| index.state() == IndexState::Finished && index.pending_index_rows == 0;
        let rows = indexes.iter().map(|index| u64::try_from(index.indexed_rows).unwrap_or_default()).sum();
        Ok(if indexes.iter().all(is_built) { Pace::Done } else { Pace::At(rows) })
    }

    async fn import(&self, request: ImportRequest<'_>) -> Result<i64, MilvusError> {
        let name = request.collection;
        let (files, options) = import_files(self.capabilities().await?, &request)?;
        let message = api::ImportRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            partition_name: request.partition.to_owned(),
            files,
            options,
            ..Default::default()
        };
        let answer = self.client().import(self.request(&name.database, message)).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        self.check_for(answer.status.as_ref(), name).await?;
        answer.tasks.first().copied().ok_or_else(|| unexpected("import task"))
    }

    async fn import_tasks(&self, name: &CollectionName) -> Result<ImportTasks, MilvusError> {
        self.require_coordinator().await?;
        let message = api::ListImportTasksRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            limit: 0,
        };
        let answer = self.client().list_import_tasks(self.request(&name.database, message)).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        self.check_for(answer.status.as_ref(), name).await?;
        // Some releases of 2.4 and 2.5 omit the ids (issue 38172).
        if answer.tasks.iter().any(|task| task.id == 0) {
            return Ok(ImportTasks::Unnamed);
        }
        let ids: HashSet<i64> = answer.tasks.into_iter().map(|task| task.id).collect();
        Ok(ImportTasks::Named(ids.into_iter().collect()))
    }

    async fn import_status(&self, task: i64) -> Result<ImportStatus, MilvusError> {
        self.require_coordinator().await?;
        let message = api::GetImportStateRequest { task };
        let answer = self.client().get_import_state(self.request("default", message)).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        check(answer.status.as_ref(), None)?;
        Ok(match answer.state() {
            ImportState::ImportCompleted => {
                ImportStatus::Completed { rows: u64::try_from(answer.row_count).unwrap_or_default() }
            }
            ImportState::ImportFailed | ImportState::ImportFailedAndCleaned => {
                let reason = answer.infos.into_iter().find(|info| info.key == "failed_reason");
                ImportStatus::Failed(reason.map_or_else(|| "no reason given".to_owned(), |info| info.value))
            }
            ImportState::ImportPending => ImportStatus::Waiting,
            // Persisted only means that the data is written: the collection can't be dropped yet, and its rows aren't
            // visible.
            state => {
                let percent = answer.infos.iter().find(|info| info.key == "progress_percent");
                let percent: u64 = percent.and_then(|percent| percent.value.parse().ok()).unwrap_or_default();
                let rows = u64::try_from(answer.row_count).unwrap_or_default();
                ImportStatus::Running { progress: (state as u64) << 56 | percent << 48 | rows }
            }
        })
    }

    async fn load(&self, name: &CollectionName, how: &Loaded) -> Result<(), MilvusError> {
        let status = match how {
            Loaded::No => return Ok(()),
            Loaded::Whole { replicas } => {
                let message = api::LoadCollectionRequest {
                    db_name: name.database.clone(),
                    collection_name: name.collection.clone(),
                    replica_number: *replicas,
                    ..Default::default()
                };
                self.client().load_collection(self.request(&name.database, message)).await
            }
            Loaded::Partitions { replicas, names } => {
                let message = api::LoadPartitionsRequest {
                    db_name: name.database.clone(),
                    collection_name: name.collection.clone(),
                    partition_names: names.clone(),
                    replica_number: *replicas,
                    ..Default::default()
                };
                self.client().load_partitions(self.request(&name.database, message)).await
            }
        };
        self.check_for(Some(&status.map_err(|status| transport(&status))?.into_inner()), name).await
    }

    async fn loading(&self, name: &CollectionName) -> Result<Pace, MilvusError> {
        if self.load_state(name).await? == LoadState::Loaded {
            return Ok(Pace::Done);
        }
        let message = api::GetLoadingProgressRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        let answer = self.client().get_loading_progress(self.request(&name.database, message)).await;
        let answer = answer.map_err(|status| transport(&status))?.into_inner();
        self.check_for(answer.status.as_ref(), name).await?;
        Ok(Pace::At(u64::try_from(answer.progress).unwrap_or_default()))
    }

    async fn release(&self, name: &CollectionName) -> Result<(), MilvusError> {
        let message = api::ReleaseCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        let answer = self.client().release_collection(self.request(&name.database, message)).await;
        self.check_for(Some(&answer.map_err(|status| transport(&status))?.into_inner()), name).await
    }

    async fn rename(&self, from: &CollectionName, to: &str) -> Result<(), MilvusError> {
        let message = api::RenameCollectionRequest {
            db_name: from.database.clone(),
            old_name: from.collection.clone(),
            new_name: to.to_owned(),
            ..Default::default()
        };
        let answer = self.client().rename_collection(self.request(&from.database, message)).await;
        self.check_for(Some(&answer.map_err(|status| transport(&status))?.into_inner()), from).await
    }

    async fn drop_collection(&self, name: &CollectionName) -> Result<(), MilvusError> {
        if self.collection_id(name).await?.is_none() {
            return Ok(());
        }
        let message = api::DropCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        let answer = self.client().drop_collection(self.request(&name.database, message)).await;
        match self.check_for(Some(&answer.map_err(|status| transport(&status))?.into_inner()), name).await {
            Err(MilvusError::NoCollection(_)) => Ok(()),
            result => result,
        }
    }

    async fn alias_target(&self, database: &str, alias: &str) -> Result<Option<String>, MilvusError> {
        let message =
            api::DescribeAliasRequest { db_name: database.to_owned(), alias: alias.to_owned(), ..Default::default() };
        match self.client().describe_alias(self.request(database, message)).await {
            Err(status) if is_not_offered(&status) => {}
            answer => {
                let answer = answer.map_err(|status| transport(&status))?.into_inner();
                match check(answer.status.as_ref(), None) {
                    Ok(()) => return Ok(Some(answer.collection)),
                    Err(_) if is_unimplemented(answer.status.as_ref()) => {}
                    // This includes an alias whose collection was dropped, which 2.3.5 keeps.
                    Err(_) if answer.status.as_ref().is_some_and(|status| NO_ALIAS.contains(&status.code)) => {
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        match self.describe_raw(&CollectionName::new(database, alias)).await {
            // Under an alias, the server describes the collection that the alias refers to, whose name is in the
            // schema.
            Ok(answer) => Ok(answer.schema.map(|schema| schema.name).filter(|name| name != alias)),
            // This includes an alias whose collection was dropped, which 2.3.5 keeps.
            Err(MilvusError::NoCollection(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn point_alias(&self, alias: &str, at: &CollectionName) -> Result<(), MilvusError> {
        // An existing alias can only be altered, and a new one only be created. 2.3.5 keeps aliases of dropped
        // collections, which no call lists. So both calls are tried, and the first that succeeds counts.
        let message = api::AlterAliasRequest {
            db_name: at.database.clone(),
            collection_name: at.collection.clone(),
            alias: alias.to_owned(),
            ..Default::default()
        };
        let answer = self.client().alter_alias(self.request(&at.database, message)).await;
        match self.check_for(Some(&answer.map_err(|status| transport(&status))?.into_inner()), at).await {
            Err(MilvusError::Refused(_)) => {}
            result => return result,
        }
        let message = api::CreateAliasRequest {
            db_name: at.database.clone(),
            collection_name: at.collection.clone(),
            alias: alias.to_owned(),
            ..Default::default()
        };
        let answer = self.client().create_alias(self.request(&at.database, message)).await;
        self.check_for(Some(&answer.map_err(|status| transport(&status))?.into_inner()), at).await
    }

    async fn drop_alias(&self, database: &str, alias: &str) -> Result<(), MilvusError> {
        // The alias isn't looked up first, because 2.3.5 drops an alias whose collection is gone but reports it as
        // missing.
        let message =
            api::DropAliasRequest { db_name: database.to_owned(), alias: alias.to_owned(), ..Default::default() };
        let answer = self.client().drop_alias(self.request(database, message)).await;
        let status = answer.map_err(|status| transport(&status))?.into_inner();
        match check(Some(&status), None) {
            Err(_) if NO_ALIAS.contains(&status.code) => Ok(()),
            result => result,
        }
    }
}
