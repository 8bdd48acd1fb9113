//! Calls of operations, over HTTP or as direct events.

use std::{collections::BTreeMap, str::FromStr};

use milvault_jobs::{Error, IdempotencyKey, Precondition};
use milvault_model::{BackupId, InstanceId, RestoreId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    Caller, Event, Filters, Headers, HttpRequest, filters::place, idempotency_key, invalid, parse, precondition_headers,
};

/// The field of a direct event that names the operation.
const ACTION: &str = "action";

/// An operation of a function, and how it is called over HTTP and by direct events.
#[derive(Debug, Clone, Copy)]
pub struct Route<A: 'static> {
    /// API Gateway's route key, such as `GET /instances/{instanceId}`. Its placeholders name the fields of a direct event
    /// that don't belong to the body. `None` for an operation that only a direct event calls.
    pub http: Option<&'static str>,
    /// The value of `action` in a direct event. An event without `action` calls the first operation whose placeholders it
    /// fills.
    pub name: &'static str,
    /// The operation.
    pub action: A,
}

/// A call of the operation `action`.
#[derive(Debug)]
pub struct Call<A> {
    /// The operation.
    pub action: A,
    /// The kind of caller.
    pub caller: Caller,
    route: Option<&'static str>,
    path: BTreeMap<String, String>,
    headers: Headers,
    input: Input,
}

/// The fields of a call that aren't in its path.
#[derive(Debug)]
enum Input {
    Http { query: BTreeMap<String, String>, body: Map<String, Value> },
    Direct(Map<String, Value>),
}

impl<A: Copy> Call<A> {
    /// Finds the operation of a function that an event calls.
    ///
    /// # Errors
    /// [`Error::RouteNotFound`] if no route has the request's path; [`Error::Invalid`] if another event calls none of
    /// the operations, or if the body can't be read.
    pub fn read(event: Event, routes: &[Route<A>]) -> Result<Self, Error> {
        match event {
            Event::Http(request) => Self::read_http(request, routes),
            Event::Direct(Value::Object(fields)) => Self::read_direct(fields, routes),
            Event::Direct(_) => Err(invalid("", "a direct event is a JSON object")),
            Event::Background(_) | Event::Rule => Err(invalid("", "this function does not handle such an event")),
        }
    }

    fn read_http(request: HttpRequest, routes: &[Route<A>]) -> Result<Self, Error> {
        let matched = routes.iter().find_map(|route| Some((route, route.path_parameters(&request)?)));
        let Some((route, path)) = matched else {
            return Err(Error::RouteNotFound { method: request.method, path: request.path });
        };
        let body = request.body.map(|body| body.fields()).transpose()?.unwrap_or_default();
        Ok(Self {
            action: route.action,
            route: route.http,
            caller: Caller::Http,
            path,
            headers: request.headers,
            input: Input::Http { query: request.query, body },
        })
    }

    fn read_direct(mut fields: Map<String, Value>, routes: &[Route<A>]) -> Result<Self, Error> {
        let route = Route::selected_by(&fields, routes)?;
        fields.remove(ACTION);
        let mut path = BTreeMap::new();
        for name in route.placeholders() {
            match fields.remove(name) {
                Some(Value::String(value)) => path.insert(name.to_owned(), value),
                Some(_) => return Err(invalid(name, "is not a text")),
                None => return Err(invalid(name, "is missing")),
            };
        }
        Ok(Self {
            action: route.action,
            route: route.http,
            caller: Caller::Direct,
            path,
            headers: Headers::default(),
            input: Input::Direct(fields),
        })
    }
}

impl<A> Call<A> {
    /// Returns the instance id in the path.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it isn't a valid instance id.
    pub fn instance(&self) -> Result<InstanceId, Error> {
        let name = "instanceId";
        self.text(name).parse().map_err(|reason: milvault_model::Invalid| invalid(name, reason.to_string()))
    }

    /// Returns the backup id in the path.
    ///
    /// # Errors
    /// [`Error::BackupNotFound`] if it isn't a valid backup id: ids are opaque, so an invalid one just doesn't exist.
    pub fn backup(&self, instance: &InstanceId) -> Result<BackupId, Error> {
        self.id("backupId").map_err(|text| Error::BackupNotFound(instance.clone(), text))
    }

    /// Returns the restore id in the path.
    ///
    /// # Errors
    /// [`Error::RestoreNotFound`] if it isn't a valid restore id.
    pub fn restore(&self, instance: &InstanceId) -> Result<RestoreId, Error> {
        self.id("restoreId").map_err(|text| Error::RestoreNotFound(instance.clone(), text))
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the body is invalid, or if there are query parameters.
    pub fn body<T: DeserializeOwned>(self) -> Result<T, Error> {
        match self.input {
            Input::Http { query, body } => {
                Filters::new(String::new(), query, &[])?;
                parse::object(body)
            }
            Input::Direct(fields) => parse::object(fields),
        }
    }

    /// Reads the body, and the query, which may have only the known parameters.
    ///
    /// # Errors
    /// [`Error::Invalid`] if one of them is invalid.
    pub fn body_and_filters<T: DeserializeOwned>(self, known: &[&str]) -> Result<(T, Filters), Error> {
        let (query, body) = match self.input {
            Input::Http { query, body } => (query, body),
            Input::Direct(mut fields) => {
                let named = known.iter().filter_map(|name| Some(((*name).to_owned(), fields.remove(*name)?)));
                (scalars(named.collect())?, fields)
            }
        };
        Ok((parse::object(body)?, Filters::new(String::new(), query, known)?))
    }

    /// Reads the query, which may have only the known parameters.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are other parameters, or if the body has any fields.
    pub fn filters(self, known: &[&str]) -> Result<Filters, Error> {
        let values = match self.input {
            Input::Http { query, body } => {
                parse::object::<Nothing>(body)?;
                query
            }
            Input::Direct(fields) => scalars(fields)?,
        };
        let path = self.path.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Filters::new(place(self.route.unwrap_or_default(), path), values, known)
    }

    /// Checks that the call has neither query parameters nor a body.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it has.
    pub fn require_no_input(self) -> Result<(), Error> {
        self.filters(&[]).map(drop)
    }

    /// Returns the call's idempotency key.
    pub fn key(&self) -> Key {
        Key(self.headers.get(idempotency_key::HEADER).map(str::to_owned))
    }

    /// Returns the condition that the object to replace has to meet.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the headers are invalid or contradict each other.
    pub fn precondition(&self) -> Result<Precondition, Error> {
        precondition_headers::read(&self.headers)
    }

    fn text(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    fn id<T: FromStr>(&self, name: &str) -> Result<T, String> {
        let text = self.text(name);
        text.parse().map_err(|_| text.to_owned())
    }
}

/// A call's idempotency key, if it has one.
#[derive(Debug, Clone)]
pub struct Key(Option<String>);

impl Key {
    /// Returns the key, if there is one, together with a hash of the parsed request.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the header isn't a valid key.
    pub fn for_request(&self, request: &impl Serialize) -> Result<Option<IdempotencyKey>, Error> {
        idempotency_key::key(self.0.as_deref(), request)
    }
}

impl<A> Route<A> {
    /// Returns the names of the path's placeholders.
    fn placeholders(&self) -> impl Iterator<Item = &'static str> {
        self.http.unwrap_or_default().split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// Returns the path's parameters; `None` if the request is for another route.
    fn path_parameters(&self, request: &HttpRequest) -> Option<BTreeMap<String, String>> {
        if let Some(route) = &request.route {
            return (self.http == Some(route.as_str())).then(|| request.path_parameters.clone());
        }
        // Without API Gateway (a function URL, the local watcher), only the path identifies the route.
        let (method, template) = self.http?.split_once(' ')?;
        let (template, path) = (template.split('/'), request.path.split('/'));
        if request.method != method || template.clone().count() != path.clone().count() {
            return None;
        }
        let mut parameters = BTreeMap::new();
        for (expected, found) in template.zip(path) {
            match expected.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(name) => drop(parameters.insert(name.to_owned(), found.to_owned())),
                None if expected == found => {}
                None => return None,
            }
        }
        Some(parameters)
    }

    /// Finds the operation that a direct event's fields select.
    fn selected_by<'a>(fields: &Map<String, Value>, routes: &'a [Self]) -> Result<&'a Self, Error> {
        let found = match fields.get(ACTION) {
            Some(action) => routes.iter().find(|route| action == route.name),
            None => {
                let is_filled = |route: &&Self| route.placeholders().all(|name| fields.contains_key(name));
                routes.iter().find(is_filled).or(routes.first())
            }
        };
        found.ok_or_else(|| {
            let names: Vec<String> = routes.iter().map(|route| format!("'{}'", route.name)).collect();
            invalid(ACTION, format!("is one of {}", names.join(", ")))
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Converts a direct event's parameters to texts, as a query has them.
fn scalars(fields: Map<String, Value>) -> Result<BTreeMap<String, String>, Error> {
    let mut texts = BTreeMap::new();
    for (name, value) in fields {
        match value {
            Value::Null => continue,
            Value::String(text) => texts.insert(name, text),
            Value::Number(number) => texts.insert(name, number.to_string()),
            Value::Bool(switch) => texts.insert(name, switch.to_string()),
            Value::Array(_) | Value::Object(_) => return Err(invalid(name, "is neither a text nor a number")),
        };
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use milvault_jobs::CursorKey;
    use serde_json::json;

    use super::*;
    use crate::{Body, PageSize};

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Action {
        Get,
        Put,
        Backup,
        Restore,
    }

    const INSTANCES: [Route<Action>; 2] = [
        Route { http: Some("GET /instances/{instanceId}"), name: "get", action: Action::Get },
        Route { http: Some("PUT /instances/{instanceId}"), name: "put", action: Action::Put },
    ];
    const DESCRIBE: [Route<Action>; 2] = [
        Route { http: Some("GET /instances/{instanceId}/backups/{backupId}"), name: "backup", action: Action::Backup },
        Route {
            http: Some("GET /instances/{instanceId}/restores/{restoreId}"),
            name: "restore",
            action: Action::Restore,
        },
    ];

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        name: String,
    }

    fn direct(event: Value, routes: &[Route<Action>]) -> Result<Call<Action>, Error> {
        Call::read(Event::Direct(event), routes)
    }

    fn request(method: &str, path: &str) -> HttpRequest {
        HttpRequest { method: method.into(), path: path.into(), ..HttpRequest::default() }
    }

    fn pointer<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        match result {
            Err(Error::Invalid(found)) => found[0].pointer.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_direct_event_and_a_request_with_the_same_fields_are_the_same_call() {
        let by_hand = direct(json!({ "action": "put", "instanceId": "orders", "name": "Orders" }), &INSTANCES).unwrap();
        let over_http = HttpRequest {
            route: Some("PUT /instances/{instanceId}".into()),
            path_parameters: [("instanceId".to_owned(), "orders".to_owned())].into(),
            body: Some(Body::Text("{\"name\":\"Orders\"}".into())),
            ..HttpRequest::default()
        };
        let over_http = Call::read(Event::Http(over_http), &INSTANCES).unwrap();
        for call in [by_hand, over_http] {
            assert_eq!(call.action, Action::Put);
            assert_eq!(call.instance().unwrap().as_str(), "orders");
            assert_eq!(call.body::<Named>().unwrap().name, "Orders");
        }
    }

    #[test]
    fn an_event_without_an_action_calls_the_first_operation_whose_path_it_fills() {
        assert_eq!(direct(json!({ "instanceId": "orders" }), &INSTANCES).unwrap().action, Action::Get);
        assert_eq!(pointer(direct(json!({ "action": "fly", "instanceId": "orders" }), &INSTANCES)), "action");
        let restore = json!({ "instanceId": "orders", "restoreId": "rs-1" });
        assert_eq!(direct(restore, &DESCRIBE).unwrap().action, Action::Restore);
        assert_eq!(pointer(direct(json!({ "instanceId": "orders" }), &DESCRIBE)), "backupId");
        let named = json!({ "instanceId": "orders", "action": "restore" });
        assert_eq!(pointer(direct(named, &DESCRIBE)), "restoreId");
    }

    #[test]
    fn a_direct_event_needs_its_path_fields_and_is_an_object() {
        assert_eq!(pointer(direct(json!({}), &INSTANCES)), "instanceId");
        assert_eq!(pointer(direct(json!({ "instanceId": 5 }), &INSTANCES)), "instanceId");
        assert_eq!(pointer(direct(json!("orders"), &INSTANCES)), "");
        assert_eq!(pointer(Call::read(Event::Rule, &INSTANCES)), "");
    }

    #[test]
    fn without_a_route_key_the_path_identifies_the_operation() {
        let call = Call::read(Event::Http(request("GET", "/instances/orders/restores/rs-1")), &DESCRIBE).unwrap();
        assert_eq!(call.action, Action::Restore);
        assert_eq!(call.instance().unwrap().as_str(), "orders");
        for (method, path) in [("POST", "/instances/orders"), ("GET", "/instances"), ("GET", "/instances/a/b")] {
            assert!(Call::read(Event::Http(request(method, path)), &INSTANCES).is_err(), "{method} {path}");
        }
    }

    #[test]
    fn a_malformed_instance_id_is_invalid_and_a_malformed_backup_id_is_not_found() {
        let call = direct(json!({ "instanceId": "no/slash", "backupId": "../x" }), &DESCRIBE).unwrap();
        assert_eq!(pointer(call.instance()), "instanceId");
        let orders: InstanceId = "orders".parse().unwrap();
        assert!(matches!(call.backup(&orders), Err(Error::BackupNotFound(_, text)) if text == "../x"));
    }

    #[test]
    fn unknown_parameters_and_fields_are_refused() {
        let with = |query: &[(&str, &str)], body: &str| {
            let request = HttpRequest {
                query: query.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
                body: Some(Body::Text(body.into())),
                ..request("GET", "/instances/orders")
            };
            Call::read(Event::Http(request), &INSTANCES).unwrap()
        };
        assert_eq!(pointer(with(&[("verbose", "1")], "{}").require_no_input()), "verbose");
        assert_eq!(pointer(with(&[], "{\"a\":1}").require_no_input()), "/a");
        assert_eq!(pointer(with(&[("verbose", "1")], "{\"name\":\"x\"}").body::<Named>()), "verbose");
        assert!(with(&[], "{}").require_no_input().is_ok());
    }

    #[test]
    fn filters_of_a_direct_event_may_be_numbers_and_switches() {
        let event = json!({ "instanceId": "orders", "limit": 5, "includeDeleted": true, "cursor": null });
        let filters = direct(event, &INSTANCES).unwrap().filters(&["limit", "includeDeleted", "cursor"]).unwrap();
        assert!(filters.switch("includeDeleted").unwrap());
        assert_eq!(filters.paging::<BackupId>(PageSize::LISTING, &CursorKey::new("of a test")).unwrap().limit, 5);
        let event = json!({ "instanceId": "orders", "limit": [5] });
        assert_eq!(pointer(direct(event, &INSTANCES).unwrap().filters(&["limit"])), "limit");
    }
}
