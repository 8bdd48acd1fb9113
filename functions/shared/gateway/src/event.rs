//! What a Lambda invocation can be about, and how a raw event tells.

use std::{borrow::Cow, collections::BTreeMap};

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use base64::{Engine, engine::general_purpose::STANDARD};
use milvault_jobs::Error;
use milvault_model::{BackupId, InstanceId, JobRef};
use milvault_ports::BackgroundEvent;
use serde_json::{Map, Value};

use crate::invalid;

/// The largest request body, in bytes once it is decoded.
pub const BODY_LIMIT: usize = 1_000_000;

/// An invocation's event.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A request through API Gateway (payload format 2.0).
    Http(HttpRequest),
    /// Work that another invocation or the scheduler asks for.
    Background(BackgroundEvent),
    /// An EventBridge rule fired.
    Rule,
    /// Anything else: a call by hand, with path and body fields side by side.
    Direct(Value),
}

/// An HTTP request, as far as the functions look at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// In capitals.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The API's route that matched, such as `GET /instances/{instanceId}`; `None` where the caller has no routes.
    pub route: Option<String>,
    /// What the route's placeholders stand for, decoded.
    pub path_parameters: BTreeMap<String, String>,
    /// The query's parameters, decoded; the values of a repeated one are joined by commas, as API Gateway does.
    pub query: BTreeMap<String, String>,
    /// The headers.
    pub headers: Headers,
    /// The body, if there is one.
    pub body: Option<Body>,
}

/// Headers; their names are looked up in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

/// A body as API Gateway hands it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// As it is.
    Text(String),
    /// In base64, which API Gateway uses for what it doesn't take for text.
    Base64(String),
}

/// Who is to be answered, and so how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Over HTTP: errors are answers too.
    Http,
    /// By hand: answers are plain objects.
    Direct,
    /// Nobody waits: only whether to try again matters.
    Background,
}

impl Event {
    /// Reads a raw event. Whatever isn't recognised is a direct call, which then says what is wrong with it.
    pub fn read(raw: Value) -> Self {
        if raw.pointer("/requestContext/http").is_some() {
            if let Some(request) = HttpRequest::read(&raw) {
                return Self::Http(request);
            }
        } else if raw.get("detail-type").is_some() && raw.get("source").is_some() {
            return Self::Rule;
        } else if let Ok(event) = serde_json::from_value(raw.clone()) {
            return Self::Background(event);
        }
        Self::Direct(raw)
    }
}

/// What an event is about, as far as it says so: for the lines of the log. Callers' own words, which may be wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// An instance's id.
    pub instance: Option<String>,
    /// A backup's id.
    pub backup: Option<String>,
    /// A restore's id.
    pub restore: Option<String>,
}

impl Event {
    /// What it is about.
    pub fn subject(&self) -> Subject {
        let named = |field: &dyn Fn(&str) -> Option<String>| Subject {
            instance: field("instanceId"),
            backup: field("backupId"),
            restore: field("restoreId"),
        };
        match self {
            Self::Http(request) => named(&|name| request.path_parameters.get(name).cloned()),
            Self::Direct(fields) => named(&|name| fields.get(name)?.as_str().map(str::to_owned)),
            Self::Background(BackgroundEvent::Resume(JobRef::Backup { instance_id, backup_id })) => {
                Subject::of(instance_id, Some(backup_id))
            }
            Self::Background(BackgroundEvent::Resume(JobRef::Restore { instance_id, restore_id })) => {
                Subject { restore: Some(restore_id.to_string()), ..Subject::of(instance_id, None) }
            }
            Self::Background(BackgroundEvent::CopyPage(task)) => Subject::of(&task.instance_id, Some(&task.backup_id)),
            Self::Background(BackgroundEvent::Verify(verify)) => {
                Subject::of(&verify.instance_id, Some(&verify.backup_id))
            }
            Self::Background(BackgroundEvent::Scheduled(scheduled)) => Subject::of(&scheduled.instance_id, None),
            Self::Rule => Subject::default(),
        }
    }
}

impl Subject {
    fn of(instance: &InstanceId, backup: Option<&BackupId>) -> Self {
        Self { instance: Some(instance.to_string()), backup: backup.map(ToString::to_string), restore: None }
    }
}

impl Caller {
    /// The caller that an event comes from.
    pub fn of(event: &Event) -> Self {
        match event {
            Event::Http(_) => Self::Http,
            Event::Direct(_) => Self::Direct,
            Event::Background(_) | Event::Rule => Self::Background,
        }
    }
}

impl HttpRequest {
    fn read(raw: &Value) -> Option<Self> {
        let mut event = raw.as_object()?.clone();
        let headers = Headers::read(event.remove("headers"));
        // What we don't read must not make a request unreadable: a header with bytes beyond ASCII, an authorizer of
        // another kind.
        if let Some(context) = event.get_mut("requestContext").and_then(Value::as_object_mut) {
            context.retain(|field, _| field == "http" || field == "routeKey");
        }
        event.retain(|field, _| {
            const READ: [&str; 8] = [
                "version",
                "routeKey",
                "rawPath",
                "queryStringParameters",
                "pathParameters",
                "requestContext",
                "body",
                "isBase64Encoded",
            ];
            READ.contains(&field.as_str())
        });
        let event: ApiGatewayV2httpRequest = serde_json::from_value(Value::Object(event)).ok()?;
        let mut query: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in event.query_string_parameters.iter() {
            query
                .entry(name.to_owned())
                .and_modify(|values| {
                    values.push(',');
                    values.push_str(value);
                })
                .or_insert_with(|| value.to_owned());
        }
        let body = event.body.filter(|body| !body.is_empty());
        Some(Self {
            method: event.request_context.http.method.to_string(),
            path: event.raw_path.unwrap_or_default(),
            route: event.route_key.filter(|route| route != "$default"),
            path_parameters: event.path_parameters.into_iter().collect(),
            query,
            headers,
            body: body.map(|body| if event.is_base64_encoded { Body::Base64(body) } else { Body::Text(body) }),
        })
    }
}

impl Headers {
    fn read(raw: Option<Value>) -> Self {
        let Some(Value::Object(raw)) = raw else { return Self::default() };
        Self::from_iter(raw.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))))
    }

    /// A header's value; several of one name come joined by commas.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_ascii_lowercase()).map(String::as_str)
    }
}

impl FromIterator<(String, String)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(headers: I) -> Self {
        Self(headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect())
    }
}

impl Body {
    /// The body's fields.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a body over [`BODY_LIMIT`], and for what isn't a JSON object.
    pub fn fields(&self) -> Result<Map<String, Value>, Error> {
        let too_long = || invalid("", format!("the body is over the limit of {BODY_LIMIT} bytes (1 MB)"));
        let bytes = match self {
            Self::Text(text) => Cow::Borrowed(text.as_bytes()),
            // Four characters stand for three bytes: what is too long isn't worth decoding.
            Self::Base64(text) if text.len() / 4 * 3 > BODY_LIMIT + 3 => return Err(too_long()),
            Self::Base64(text) => {
                Cow::Owned(STANDARD.decode(text).map_err(|_| invalid("", "the body isn't what its encoding says"))?)
            }
        };
        if bytes.len() > BODY_LIMIT {
            return Err(too_long());
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Err(invalid("", "the body is not a JSON object")),
            Err(cause) => Err(invalid("", format!("the body is not JSON: {cause}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use milvault_ports::{SCHEDULED_TIME, Scheduled};

    use super::*;

    fn http(more: Value) -> HttpRequest {
        let mut event = json!({
            "version": "2.0",
            "routeKey": "POST /instances/{instanceId}/backups",
            "rawPath": "/instances/orders/backups",
            "rawQueryString": "",
            "headers": { "content-type": "application/json", "Idempotency-Key": "k-1", "x-odd": "grün" },
            "requestContext": {
                "accountId": "123456789012", "apiId": "api", "stage": "$default", "requestId": "r", "time": "now",
                "timeEpoch": 1, "authorizer": { "iam": { "cognitoIdentity": null, "userId": 7 } },
                "http": { "method": "POST", "path": "/instances/orders/backups", "protocol": "HTTP/1.1",
                          "sourceIp": "127.0.0.1", "userAgent": "curl" }
            },
            "pathParameters": { "instanceId": "orders" },
            "isBase64Encoded": false
        });
        for (field, value) in more.as_object().unwrap() {
            event[field] = value.clone();
        }
        match Event::read(event) {
            Event::Http(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn detail(body: Body) -> String {
        match body.fields() {
            Err(Error::Invalid(fields)) => fields[0].detail.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_api_gateway_event_is_an_http_request_whatever_its_headers_and_authorizer_hold() {
        let request = http(json!({ "body": "{\"name\":\"a\"}", "queryStringParameters": { "limit": "5" } }));
        assert_eq!(request.method, "POST");
        assert_eq!(request.route.as_deref(), Some("POST /instances/{instanceId}/backups"));
        assert_eq!(request.path_parameters["instanceId"], "orders");
        let subject = Subject { instance: Some("orders".to_owned()), ..Subject::default() };
        assert_eq!(Event::Http(request.clone()).subject(), subject);
        assert_eq!(request.query["limit"], "5");
        assert_eq!(request.headers.get("IDEMPOTENCY-key"), Some("k-1"));
        assert_eq!(request.headers.get("X-Odd"), Some("grün"));
        assert_eq!(request.body.unwrap().fields().unwrap()["name"], "a");
    }

    #[test]
    fn a_body_in_base64_is_decoded_and_an_empty_one_is_none() {
        let encoded = STANDARD.encode("{\"name\":\"移行前\"}");
        let request = http(json!({ "body": encoded, "isBase64Encoded": true }));
        assert_eq!(request.body.unwrap().fields().unwrap()["name"], "移行前");
        assert_eq!(http(json!({ "body": "" })).body, None);
        assert_eq!(http(json!({ "body": null, "pathParameters": null })).body, None);
    }

    #[test]
    fn a_body_over_the_limit_is_refused_with_the_limit_in_either_encoding() {
        let long = format!("{{\"name\":\"{}\"}}", "x".repeat(BODY_LIMIT));
        assert!(detail(Body::Text(long.clone())).contains("1000000"));
        assert!(detail(Body::Base64(STANDARD.encode(&long))).contains("1000000"));
        let fits = format!("{{\"name\":\"{}\"}}", "x".repeat(BODY_LIMIT - 11));
        assert_eq!(fits.len(), BODY_LIMIT);
        assert!(Body::Base64(STANDARD.encode(&fits)).fields().is_ok());
    }

    #[test]
    fn a_body_that_is_no_json_object_is_refused() {
        assert!(detail(Body::Text("{".into())).starts_with("the body is not JSON"));
        assert!(detail(Body::Text("[1]".into())).contains("not a JSON object"));
        assert!(detail(Body::Base64("*".into())).contains("encoding"));
        assert!(detail(Body::Base64(STANDARD.encode([0xff]))).starts_with("the body is not JSON"));
        assert!(detail(Body::Text("[".repeat(10_000))).starts_with("the body is not JSON"));
    }

    #[test]
    fn resume_rule_and_direct_events_are_told_apart() {
        let job = json!({ "kind": "backup", "instanceId": "orders", "backupId": "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV" });
        let resume = Event::read(json!({ "resume": job }));
        assert!(
            matches!(&resume, Event::Background(BackgroundEvent::Resume(job)) if job.instance_id().as_str() == "orders")
        );
        assert_eq!(resume.subject().backup.as_deref(), Some("bk-01ARZ3NDEKTSV4RRFFQ69G5FAV"));
        assert_eq!(Caller::of(&resume), Caller::Background);
        let scheduled = |time: Option<&str>| {
            Event::read(json!({ "scheduled": match time {
                None => json!({ "instanceId": "orders" }),
                Some(time) => json!({ "instanceId": "orders", "time": time }),
            } }))
        };
        let Event::Background(BackgroundEvent::Scheduled(at_three)) = scheduled(Some("2026-11-23T03:00:00Z")) else {
            panic!("scheduled")
        };
        assert_eq!(at_three.time.unwrap().timestamp(), 1_795_402_800);
        for unsaid in [None, Some(SCHEDULED_TIME)] {
            assert!(matches!(
                scheduled(unsaid),
                Event::Background(BackgroundEvent::Scheduled(Scheduled { time: None, .. }))
            ));
        }
        assert!(matches!(scheduled(Some("soon")), Event::Direct(_)));
        let verify = json!({ "verify": { "instanceId": "orders", "backupId": "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV" } });
        let verify = Event::read(verify);
        assert!(matches!(&verify, Event::Background(BackgroundEvent::Verify(_))), "{verify:?}");
        assert_eq!(Caller::of(&verify), Caller::Background, "its failure is tried again, and counts as one");
        let rule = json!({ "version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {} });
        assert_eq!(Event::read(rule), Event::Rule);
        for direct in
            [json!({ "instanceId": "orders" }), json!({ "resume": { "kind": "tea" } }), json!(null), json!([])]
        {
            assert_eq!(Event::read(direct.clone()), Event::Direct(direct));
        }
    }
}
