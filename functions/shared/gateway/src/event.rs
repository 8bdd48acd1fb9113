//! The kinds of events that invoke a function, and how a raw event is recognised.

use std::{borrow::Cow, collections::BTreeMap};

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use base64::{Engine, engine::general_purpose::STANDARD};
use milvault_jobs::Error;
use milvault_model::{BackupId, InstanceId, JobRef};
use milvault_ports::BackgroundEvent;
use serde_json::{Map, Value};

use crate::invalid;

/// The maximum size of a decoded request body in bytes.
pub const BODY_LIMIT: usize = 1_000_000;

/// An invocation's event.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A request through API Gateway (payload format 2.0).
    Http(HttpRequest),
    /// Work that another invocation or the scheduler requests.
    Background(BackgroundEvent),
    /// An EventBridge rule fired.
    Rule,
    /// Any other event: a direct call, with the fields of path and body side by side.
    Direct(Value),
}

/// The parts of an HTTP request that the functions use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// The method, in capitals.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The API's route, such as `GET /instances/{instanceId}`; `None` if the caller has no routes.
    pub route: Option<String>,
    /// The values of the route's placeholders, decoded.
    pub path_parameters: BTreeMap<String, String>,
    /// The query's parameters, decoded. The values of a repeated parameter are joined by commas, as API Gateway does.
    pub query: BTreeMap<String, String>,
    /// The headers.
    pub headers: Headers,
    /// The body, if there is one.
    pub body: Option<Body>,
}

/// Headers, whose names are case-insensitive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

/// A body as API Gateway passes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The body itself.
    Text(String),
    /// The body in base64, which API Gateway uses for content types other than text.
    Base64(String),
}

/// The kind of caller, which decides the form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A caller over HTTP. Errors are answers too.
    Http,
    /// A caller that invokes the function directly. Answers are plain objects.
    Direct,
    /// No caller waits. The answer matters only for whether Lambda retries.
    Background,
}

impl Event {
    /// Reads a raw event. An unrecognised event is a direct call, whose validation then reports what is wrong.
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

/// The ids that an event names, for the log. They are the caller's texts, and may be invalid.
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
    /// Returns the ids that the event names.
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
                Subject::for_instance(instance_id, Some(backup_id))
            }
            Self::Background(BackgroundEvent::Resume(JobRef::Restore { instance_id, restore_id })) => {
                Subject { restore: Some(restore_id.to_string()), ..Subject::for_instance(instance_id, None) }
            }
            Self::Background(BackgroundEvent::CopyPage(task)) => {
                Subject::for_instance(&task.instance_id, Some(&task.backup_id))
            }
            Self::Background(BackgroundEvent::Verify(verify)) => {
                Subject::for_instance(&verify.instance_id, Some(&verify.backup_id))
            }
            Self::Background(BackgroundEvent::Scheduled(scheduled)) => {
                Subject::for_instance(&scheduled.instance_id, None)
            }
            Self::Rule => Subject::default(),
        }
    }
}

impl Subject {
    fn for_instance(instance: &InstanceId, backup: Option<&BackupId>) -> Self {
        Self { instance: Some(instance.to_string()), backup: backup.map(ToString::to_string), restore: None }
    }
}

impl Caller {
    /// Returns the kind of caller that an event comes from.
    pub fn from_event(event: &Event) -> Self {
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
        // Fields that aren't used are removed, so that they can't make the request unreadable: a header with bytes
        // beyond ASCII, an authorizer of another kind.
        if let Some(context) = event.get_mut("requestContext").and_then(Value::as_object_mut) {
            context.retain(|field, _| field == "http" || field == "routeKey");
        }
        event.retain(|field, _| {
            const USED: [&str; 8] = [
                "version",
                "routeKey",
                "rawPath",
                "queryStringParameters",
                "pathParameters",
                "requestContext",
                "body",
                "isBase64Encoded",
            ];
            USED.contains(&field.as_str())
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

    /// Returns a header's value. API Gateway joins repeated headers by commas.
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
    /// Reads the body's fields.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the body is over [`BODY_LIMIT`] or isn't a JSON object.
    pub fn fields(&self) -> Result<Map<String, Value>, Error> {
        let too_long = || invalid("", format!("the body is over the limit of {BODY_LIMIT} bytes (1 MB)"));
        let bytes = match self {
            Self::Text(text) => Cow::Borrowed(text.as_bytes()),
            // Four characters stand for three bytes, so a body that is too long is refused before it is decoded.
            Self::Base64(text) if text.len() / 4 * 3 > BODY_LIMIT + 3 => return Err(too_long()),
            Self::Base64(text) => {
                Cow::Owned(STANDARD.decode(text).map_err(|_| invalid("", "the body is not valid in its encoding"))?)
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
    fn background_rule_and_direct_events_are_distinguished() {
        let job = json!({ "kind": "backup", "instanceId": "orders", "backupId": "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV" });
        let resume = Event::read(json!({ "resume": job }));
        assert!(
            matches!(&resume, Event::Background(BackgroundEvent::Resume(job)) if job.instance_id().as_str() == "orders")
        );
        assert_eq!(resume.subject().backup.as_deref(), Some("bk-01ARZ3NDEKTSV4RRFFQ69G5FAV"));
        assert_eq!(Caller::from_event(&resume), Caller::Background);
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
        for absent in [None, Some(SCHEDULED_TIME)] {
            assert!(matches!(
                scheduled(absent),
                Event::Background(BackgroundEvent::Scheduled(Scheduled { time: None, .. }))
            ));
        }
        assert!(matches!(scheduled(Some("soon")), Event::Direct(_)));
        let verify = json!({ "verify": { "instanceId": "orders", "backupId": "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV" } });
        let verify = Event::read(verify);
        assert!(matches!(&verify, Event::Background(BackgroundEvent::Verify(_))), "{verify:?}");
        assert_eq!(Caller::from_event(&verify), Caller::Background, "its failure is retried, and counts as a failure");
        let rule = json!({ "version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {} });
        assert_eq!(Event::read(rule), Event::Rule);
        for direct in
            [json!({ "instanceId": "orders" }), json!({ "resume": { "kind": "tea" } }), json!(null), json!([])]
        {
            assert_eq!(Event::read(direct.clone()), Event::Direct(direct));
        }
    }
}
