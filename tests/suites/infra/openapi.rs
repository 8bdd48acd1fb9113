//! The OpenAPI document against the template's routes, the handlers and the error codes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use milvault_wire::{
    AsGiven, AutoBackupRequest, AutoBackupView, BackupDescription, BackupRequest, BackupView, CheckedInstanceView,
    DeletedBackupView, InstanceDescription, InstanceView, PageView, PreflightView, Problem, Registration,
    RestoreDescription, RestoreRequest, RestoreView, UsageView, VerifiedBackupView,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;
use serde_yaml_ng::Value;

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

fn document() -> Value {
    serde_yaml_ng::from_str(&text("infra/openapi.yaml")).unwrap()
}

/// The target of a reference within the document; any other value as it is.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => reference.trim_start_matches("#/").split('/').fold(document, |found, part| &found[part]),
        None => value,
    }
}

/// The operations, by route key.
fn operations(document: &Value) -> BTreeMap<String, &Value> {
    let paths = document["paths"].as_mapping().unwrap();
    let of_path = |(path, item): (&'_ Value, &'_ Value)| {
        let methods = item.as_mapping().unwrap().keys().filter(|method| *method != "parameters");
        let path = path.as_str().unwrap().to_owned();
        methods.map(|method| method.as_str().unwrap().to_owned()).map(|m| (m, path.clone())).collect::<Vec<_>>()
    };
    let all = paths.iter().flat_map(of_path);
    all.map(|(method, path)| {
        let key = format!("{} {path}", method.to_uppercase());
        (key, &document["paths"][path.as_str()][method.as_str()])
    })
    .collect()
}

/// The quoted texts that follow `before` in a source file, without its tests.
fn quoted_after<'a>(source: &'a str, before: &str) -> Vec<&'a str> {
    let source = source.split("#[cfg(test)]").next().unwrap_or(source);
    source.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// The route keys in the sources of the functions' handlers.
fn served() -> BTreeSet<String> {
    let functions = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions")).unwrap();
    let sources = functions.map(|entry| entry.unwrap().path().join("src/lib.rs")).filter(|path| path.exists());
    let mut routes = BTreeSet::new();
    for source in sources {
        routes
            .extend(quoted_after(&fs::read_to_string(source).unwrap(), "http: Some(\"").into_iter().map(str::to_owned));
    }
    routes
}

#[test]
fn the_document_the_template_and_the_handlers_have_the_same_routes() {
    let document = document();
    let documented: BTreeSet<String> = operations(&document).into_keys().collect();
    let template: Value = serde_yaml_ng::from_str(&text("infra/template.yaml")).unwrap();
    let resources = template["Resources"].as_mapping().unwrap().values();
    let deployed: BTreeSet<String> = resources
        .filter(|resource| resource["Type"] == "AWS::ApiGatewayV2::Route")
        .map(|route| route["Properties"]["RouteKey"].as_str().unwrap().to_owned())
        // The route of every other call.
        .filter(|route| route != "$default")
        .collect();
    assert!(!documented.is_empty());
    assert_eq!(documented, deployed);
    assert_eq!(documented, served());
}

#[test]
fn every_placeholder_of_a_path_is_a_parameter() {
    let document = document();
    for (path, item) in document["paths"].as_mapping().unwrap() {
        let path = path.as_str().unwrap();
        let placeholders = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters = item["parameters"].as_sequence().into_iter().flatten();
        let in_path = parameters.map(|parameter| resolved(&document, parameter)).filter(|found| found["in"] == "path");
        let names: Vec<&str> = in_path.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(names, placeholders.collect::<Vec<_>>(), "{path}");
    }
}

#[test]
fn every_post_takes_an_idempotency_key_and_every_put_a_condition() {
    let document = document();
    for (route, operation) in operations(&document) {
        let parameters = operation["parameters"].as_sequence().into_iter().flatten();
        let names: BTreeSet<&str> =
            parameters.map(|parameter| resolved(&document, parameter)["name"].as_str().unwrap()).collect();
        assert_eq!(names.contains("Idempotency-Key"), route.starts_with("POST "), "{route}");
        for header in ["If-Match", "If-None-Match"] {
            assert_eq!(names.contains(header), route.starts_with("PUT "), "{route}: {header}");
        }
    }
}

#[test]
fn every_answer_has_a_schema_and_an_example_and_every_error_is_a_problem() {
    let document = document();
    for (route, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_mapping().unwrap() {
            let status = status.as_str().unwrap();
            let content = resolved(&document, response)["content"].as_mapping().unwrap();
            let expected = if status < "400" { "application/json" } else { "application/problem+json" };
            let kinds: Vec<&str> = content.keys().map(|kind| kind.as_str().unwrap()).collect();
            let also = if (route.as_str(), status) == ("GET /usage", "200") { vec!["text/csv"] } else { vec![] };
            assert_eq!(kinds, [vec![expected], also].concat(), "{route}");
            for media in content.values() {
                assert!(!media["schema"].is_null(), "{route} {status}");
                assert!(
                    media["examples"].as_mapping().is_some_and(|examples| !examples.is_empty()),
                    "{route} {status}"
                );
            }
            let media = &content[expected];
            if status >= "400" {
                let stated = media["schema"]["allOf"][1]["properties"]["status"]["const"].as_u64().unwrap();
                assert_eq!(stated.to_string(), status, "{route}");
            }
        }
    }
}

/// What a JSON document is when it was read as an object and is written again.
type Rewrite = fn(&Json) -> Json;

/// As an object `T`, which must be the same when what was written is read.
fn rewritten<T: DeserializeOwned + Serialize + PartialEq>(document: &Json) -> Json {
    let read: T = serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{error}: {document}"));
    let written = serde_json::to_value(&read).unwrap();
    assert!(serde_json::from_value::<T>(written.clone()).unwrap() == read, "{document}");
    written
}

/// The objects that are answered, by schema.
const ANSWERED: [(&str, Rewrite); 14] = [
    ("InstancePage", rewritten::<PageView<InstanceView>>),
    ("InstanceDescription", rewritten::<InstanceDescription>),
    ("CheckedInstance", rewritten::<CheckedInstanceView>),
    ("Instance", rewritten::<InstanceView>),
    ("Preflight", rewritten::<PreflightView>),
    ("AutoBackup", rewritten::<AutoBackupView>),
    ("BackupPage", rewritten::<PageView<BackupView>>),
    ("Backup", rewritten::<BackupView>),
    ("BackupDescription", rewritten::<BackupDescription>),
    ("DeletedBackup", rewritten::<DeletedBackupView>),
    ("VerifiedBackup", rewritten::<VerifiedBackupView>),
    ("RestorePage", rewritten::<PageView<RestoreView>>),
    ("RestoreDescription", rewritten::<RestoreDescription>),
    ("UsagePage", rewritten::<UsageView>),
];

/// Those that are asked with, as the functions read them and as a client writes them.
const ASKED: [(&str, [Rewrite; 2]); 4] = [
    ("Registration", [rewritten::<Registration>, rewritten::<Registration<AsGiven>>]),
    ("AutoBackupRequest", [rewritten::<AutoBackupRequest>, rewritten::<AutoBackupRequest>]),
    ("BackupRequest", [rewritten::<BackupRequest>, rewritten::<BackupRequest<AsGiven>>]),
    ("RestoreRequest", [rewritten::<RestoreRequest>, rewritten::<RestoreRequest<AsGiven>>]),
];

/// A media type's schema, by its name, and its examples.
fn examples<'a>(document: &'a Value, media: &'a Value) -> (&'a str, Vec<Json>) {
    let schema = media["schema"]["$ref"].as_str().unwrap_or_default();
    let examples = media["examples"].as_mapping().unwrap().values();
    let values = examples.map(|example| serde_json::to_value(&resolved(document, example)["value"]).unwrap());
    (schema.trim_start_matches("#/components/schemas/"), values.collect())
}

#[test]
fn every_example_is_an_object_of_the_wire_crate_and_stays_what_it_is_when_it_is_read_and_written() {
    let document = document();
    let (mut answered, mut asked) = (BTreeSet::new(), BTreeSet::new());
    for (route, operation) in operations(&document) {
        if let Some(media) = operation["requestBody"]["content"].get("application/json") {
            let (schema, examples) = examples(&document, media);
            let (_, rewrites) = ASKED.iter().find(|(name, _)| *name == schema).expect(schema);
            asked.insert(schema);
            for example in examples {
                let [read, written] = rewrites.map(|rewrite| rewrite(&example));
                assert_eq!(read, written, "{route}");
                // Defaults are spelled out.
                for (field, value) in example.as_object().unwrap() {
                    assert_eq!(&written[field], value, "{route}: {field}");
                }
            }
        }
        for (_, response) in operation["responses"].as_mapping().unwrap() {
            let content = &resolved(&document, response)["content"];
            if let Some(media) = content.get("application/json") {
                let (schema, examples) = examples(&document, media);
                let (_, rewrite) = ANSWERED.iter().find(|(name, _)| *name == schema).expect(schema);
                answered.insert(schema);
                for example in examples {
                    assert_eq!(rewrite(&example), example, "{route}");
                }
            }
            if let Some(media) = content.get("application/problem+json") {
                for example in examples(&document, media).1 {
                    assert_eq!(rewritten::<Problem>(&example), example, "{route}");
                }
            }
        }
    }
    assert_eq!((answered.len(), asked.len()), (ANSWERED.len(), ASKED.len()));
}

#[test]
fn a_request_with_a_field_outside_its_schema_is_invalid() {
    let document = document();
    for (route, operation) in operations(&document) {
        let Some(media) = operation["requestBody"]["content"].get("application/json") else { continue };
        let schema = resolved(&document, &media["schema"]);
        assert_eq!(schema["additionalProperties"], false, "{route}");
    }
}

#[test]
fn the_error_codes_of_the_document_are_those_of_the_handlers() {
    let document = document();
    let codes = |list: &Value| -> BTreeSet<String> {
        list.as_sequence().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect()
    };
    let given: BTreeSet<String> =
        quoted_after(&text("functions/shared/wire/src/problem.rs"), "\"urn:milvault:problem:")
            .into_iter()
            .map(|name| name.replace('-', "_").to_uppercase())
            .collect();
    assert_eq!(codes(&document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]), given);
    // Each code may be the answer of an operation.
    let mut answered = BTreeSet::from(["ROUTE_NOT_FOUND".to_owned()]);
    for (_, operation) in operations(&document) {
        for (_, response) in operation["responses"].as_mapping().unwrap() {
            let schema = &resolved(&document, response)["content"]["application/problem+json"]["schema"];
            if let Some(properties) = schema["allOf"].get(1).map(|narrowed| &narrowed["properties"]) {
                answered.extend(codes(&properties["code"]["enum"]));
            }
        }
    }
    assert_eq!(answered, given);
}

#[test]
fn the_failure_codes_of_the_document_are_those_of_the_model() {
    let source = text("functions/shared/model/src/job.rs");
    let body = source.split("pub enum FailureCode {").nth(1).unwrap().split('}').next().unwrap();
    let code = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let variants = code.filter_map(|line| line.strip_suffix(','));
    // The codes as serde writes them.
    let screaming = |variant: &str| -> String {
        let letters = variant.char_indices().flat_map(|(place, letter)| {
            let gap = (place > 0 && letter.is_uppercase()).then_some('_');
            gap.into_iter().chain(letter.to_uppercase())
        });
        letters.collect()
    };
    let given: BTreeSet<String> = variants.map(screaming).collect();
    let listed = &document()["components"]["schemas"]["Failure"]["properties"]["code"]["enum"];
    let listed: BTreeSet<String> =
        listed.as_sequence().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect();
    assert!(given.contains("SOURCE_INCONSISTENT"), "{given:?}");
    assert_eq!(listed, given);
}
