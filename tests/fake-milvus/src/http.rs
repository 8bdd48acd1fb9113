//! The HTTP side: REST on the port of gRPC, and the management endpoint.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Query, Request, State as Shared},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    Garbage,
    state::{Segment, State},
};

type SharedState = Arc<Mutex<State>>;

/// REST, added to the router of gRPC.
pub(crate) fn rest(state: SharedState, grpc: Router) -> Router {
    let rest = Router::new().route("/v2/vectordb/segments/describe", post(segments)).with_state(state);
    grpc.merge(rest)
}

/// The tokens that are accepted.
pub(crate) type Tokens = Arc<std::sync::Mutex<Vec<String>>>;

/// Lets only those in who have one of these tokens: in base64 over gRPC, as it is over REST.
pub(crate) fn locked(router: Router, tokens: Tokens) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let both = |token: &String| [BASE64_STANDARD.encode(token), format!("Bearer {token}")];
        let wanted: Vec<String> = tokens.iter().flat_map(both).collect();
        async move {
            let is_grpc = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc");
            let given = authorization(request.headers());
            match (wanted.contains(&given), is_grpc) {
                (true, _) => next.run(request).await,
                (false, true) => tonic::Status::unauthenticated("auth check failure").into_http::<axum::body::Body>(),
                (false, false) => {
                    let body = Json(json!({ "code": 1800, "message": "user hasn't authenticated" }));
                    (StatusCode::UNAUTHORIZED, body).into_response()
                }
            }
        }
    }))
}

fn authorization(headers: &HeaderMap) -> String {
    headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Describe {
    db_name: String,
    collection_id: i64,
    segment_ids: Vec<i64>,
}

/// The answer's shape is that which milvus-backup reads (`internal/client/milvus/restful.go`).
async fn segments(Shared(state): Shared<SharedState>, Json(asked): Json<Describe>) -> Response {
    let mut state = state.lock().await;
    state.work().await;
    for change in std::mem::take(&mut state.faults.before_files) {
        state.change(&asked.db_name, &change);
    }
    if !state.line.has_segment_files() {
        return (StatusCode::NOT_FOUND, "404 page not found").into_response();
    }
    let collections = state.databases.get(&asked.db_name).into_iter().flat_map(|collections| collections.values());
    let known: Vec<&Segment> =
        collections.filter(|c| c.id == asked.collection_id).flat_map(|collection| &collection.segments).collect();
    let found: Option<Vec<&&Segment>> =
        asked.segment_ids.iter().map(|id| known.iter().find(|segment| segment.id == *id)).collect();
    let Some(found) = found else {
        return Json(json!({ "code": 600, "message": "segment not found" })).into_response();
    };
    let infos: Vec<Value> = found.into_iter().map(|segment| info(asked.collection_id, segment)).collect();
    Json(json!({ "code": 0, "data": { "segmentInfos": infos } })).into_response()
}

fn info(collection: i64, segment: &Segment) -> Value {
    let insert: Vec<Value> =
        segment.insert.iter().map(|(folder, log)| json!({ "fieldID": folder, "logIDs": [log] })).collect();
    // A segment without deletes has no list of them.
    let delta = (!segment.delta.is_empty()).then(|| json!([{ "fieldID": 0, "logIDs": segment.delta }]));
    json!({
        "segmentID": segment.id,
        "collectionID": collection,
        "partitionID": segment.partition,
        "numRows": segment.rows.len(),
        "state": segment.state as i32,
        "level": segment.level as i32,
        "insertLogs": insert,
        "deltaLogs": delta,
        "statsLogs": [],
    })
}

pub(crate) fn management(state: SharedState) -> Router {
    Router::new()
        .route("/management/datacoord/garbage_collection/pause", get(pause))
        .route("/management/datacoord/garbage_collection/resume", get(resume))
        .with_state(state)
}

/// The refusal of a call about garbage collection, if it is refused.
fn refusal(state: &State, headers: &HeaderMap) -> Option<Response> {
    if let Some(password) = &state.faults.management_is_locked {
        let wanted = format!("Basic {}", BASE64_STANDARD.encode(format!("root:{}", password.0)));
        if authorization(headers) != wanted {
            return Some((StatusCode::UNAUTHORIZED, r#"{"msg": "authentication required"}"#).into_response());
        }
    }
    let is_unknown = garbage(state) == Garbage::Unknown;
    is_unknown.then(|| (StatusCode::NOT_FOUND, "404 page not found").into_response())
}

fn garbage(state: &State) -> Garbage {
    state.faults.garbage.unwrap_or_else(|| state.line.garbage())
}

async fn pause(
    Shared(state): Shared<SharedState>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let mut state = state.lock().await;
    if let Some(refusal) = refusal(&state, &headers) {
        return refusal;
    }
    if query.get("pause_seconds").and_then(|seconds| seconds.parse::<u64>().ok()).is_none() {
        return (StatusCode::INTERNAL_SERVER_ERROR, r#"{"msg": "failed to pause garbage collection"}"#).into_response();
    }
    if garbage(&state) == Garbage::Shared {
        state.holds.insert(String::new());
        return r#"{"msg": "OK"}"#.into_response();
    }
    // Tickets are opaque and contain characters that a query has to escape.
    let collection = query.get("collection_id").map_or("", String::as_str);
    let ticket =
        BASE64_STANDARD.encode(json!({ "token": format!("{}>>", state.id()), "collection": collection }).to_string());
    state.holds.insert(ticket.clone());
    Json(json!({ "msg": "OK", "ticket": ticket })).into_response()
}

/// The server reads a collection's id out of the ticket, and fails if it is empty (pull request 53592).
fn names_a_collection(ticket: &str) -> bool {
    let read = || {
        let ticket: Value = serde_json::from_slice(&BASE64_STANDARD.decode(ticket).ok()?).ok()?;
        ticket.get("collection")?.as_str()?.parse::<i64>().ok()
    };
    read().is_some()
}

async fn resume(
    Shared(state): Shared<SharedState>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let mut state = state.lock().await;
    if let Some(refusal) = refusal(&state, &headers) {
        return refusal;
    }
    match (garbage(&state), query.get("ticket")) {
        (Garbage::Ticketed, None) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, r#"{"msg": "a ticket is needed"}"#).into_response();
        }
        (Garbage::Ticketed, Some(ticket)) if !names_a_collection(ticket) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, r#"{"msg": "parsing \"\": invalid syntax"}"#).into_response();
        }
        (Garbage::Ticketed, Some(ticket)) => drop(state.holds.remove(ticket)),
        _ => state.holds.clear(),
    }
    r#"{"msg": "OK"}"#.into_response()
}
