//! The template against the contract: errors that only an account would show and that linters don't see.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod permissions;
mod storage;
mod watching;

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml_ng::Value;

/// The contract's routes of the functions that the template deploys.
const ROUTES: [(&str, &str); 20] = [
    ("GET /instances", "InstancesFunction"),
    ("PUT /instances/{instanceId}", "InstancesFunction"),
    ("GET /instances/{instanceId}", "InstancesFunction"),
    ("DELETE /instances/{instanceId}", "InstancesFunction"),
    ("POST /instances/{instanceId}/preflight", "InstancesFunction"),
    ("GET /instances/{instanceId}/auto-backup", "AutoBackupFunction"),
    ("PUT /instances/{instanceId}/auto-backup", "AutoBackupFunction"),
    ("POST /instances/{instanceId}/backups", "CreateBackupFunction"),
    ("POST /instances/{instanceId}/backups/{backupId}/verify", "CreateBackupFunction"),
    ("GET /instances/{instanceId}/backups", "ListFunction"),
    ("GET /instances/{instanceId}/restores", "ListFunction"),
    ("GET /instances/{instanceId}/backups/{backupId}", "DescribeFunction"),
    ("GET /instances/{instanceId}/restores/{restoreId}", "DescribeFunction"),
    ("POST /instances/{instanceId}/restores", "RestoreFunction"),
    ("POST /instances/{instanceId}/restores/{restoreId}/rollback", "RestoreFunction"),
    ("DELETE /instances/{instanceId}/backups/{backupId}", "DeleteFunction"),
    ("DELETE /instances/{instanceId}/restores/{restoreId}", "DeleteFunction"),
    ("GET /usage", "UsageFunction"),
    // The route of calls that match no other one.
    ("$default", "ListFunction"),
    // Not a route: the one function without routes.
    ("", "RetentionSweepFunction"),
];

struct Template(Value);

impl Template {
    fn read() -> Self {
        Self::of("template.yaml")
    }

    fn of(file: &str) -> Self {
        let path = format!("{}/../../infra/{file}", env!("CARGO_MANIFEST_DIR"));
        Self(serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    fn resources(&self, kind: &str) -> BTreeMap<&str, &Value> {
        let resources = self.0["Resources"].as_mapping().unwrap();
        let of_kind = resources.iter().filter(|(_, resource)| resource["Type"] == kind);
        of_kind.map(|(name, resource)| (name.as_str().unwrap(), resource)).collect()
    }
}

/// The text of a value, without its intrinsic function.
fn text(value: &Value) -> &str {
    match value {
        Value::Tagged(tagged) => text(&tagged.value),
        other => other.as_str().unwrap_or_default(),
    }
}

/// Every text in a value, without its intrinsic functions; for a choice, the texts of both branches.
fn texts(value: &Value) -> Vec<String> {
    match value {
        // The values put into the text name the same resources in other buckets.
        Value::Tagged(tagged) if tagged.tag == "Sub" && tagged.value.is_sequence() => texts(&tagged.value[0]),
        Value::Tagged(tagged) if tagged.tag == "GetAtt" => vec![format!("${{{}}}", text(&tagged.value))],
        Value::Tagged(tagged) if tagged.tag == "Ref" => vec![format!("${{{}}}", text(&tagged.value))],
        Value::Tagged(tagged) if tagged.tag == "If" => {
            let branches = tagged.value.as_sequence().unwrap();
            branches[1..].iter().flat_map(texts).collect()
        }
        // The separator comes first.
        Value::Tagged(tagged) if tagged.tag == "Split" || tagged.tag == "Join" => texts(&tagged.value[1]),
        Value::Tagged(tagged) => texts(&tagged.value),
        Value::Sequence(values) => values.iter().flat_map(texts).collect(),
        other => other.as_str().unwrap_or_default().split(',').map(str::to_owned).collect(),
    }
}

/// The condition of a choice, and its two texts: if the condition holds, and if not.
fn chosen(value: &Value) -> (&str, [&str; 2]) {
    let Value::Tagged(choice) = value else { panic!("{value:?} is no choice") };
    let parts = choice.value.as_sequence().unwrap();
    (parts[0].as_str().unwrap(), [text(&parts[1]), text(&parts[2])])
}

#[test]
fn required_parameters_have_no_default() {
    let template = Template::read();
    let endpoints = &template.0["Parameters"]["AllowedEndpoints"];
    assert!(endpoints["Default"].is_null() && endpoints["MinLength"] == 1, "{endpoints:?}");
    let rule = &template.0["Rules"]["TokensAreForSomeone"];
    assert_eq!(texts(&rule["RuleCondition"]), ["${JwtIssuer}", ""]);
    assert_eq!(texts(&rule["Assertions"][0]["Assert"]), ["${JwtAudience}", ""]);
}

#[test]
fn conditions_compare_parameters_as_strings() {
    for file in ["template.yaml", "snapshot-bucket.yaml"] {
        for (name, condition) in Template::of(file).0["Conditions"].as_mapping().unwrap() {
            let mut value = condition;
            while let Value::Tagged(tagged) = value {
                if tagged.tag == "Equals" {
                    assert!(tagged.value[1].is_string(), "{file}: {name:?}");
                }
                value = if tagged.value.is_sequence() { &tagged.value[0] } else { &tagged.value };
            }
        }
    }
}

#[test]
fn every_suppressed_check_gives_its_reason() {
    let mut exceptions = 0;
    for file in ["template.yaml", "snapshot-bucket.yaml"] {
        for (name, resource) in Template::of(file).0["Resources"].as_mapping().unwrap() {
            let skipped = resource["Metadata"]["checkov"]["skip"].as_sequence();
            for exception in skipped.into_iter().flatten() {
                assert!(text(&exception["id"]).starts_with("CKV_AWS_"), "{name:?}");
                assert!(text(&exception["comment"]).len() > 40, "{name:?}: {exception:?}");
                exceptions += 1;
            }
        }
    }
    assert_eq!(exceptions, 9 * 4 + 2 * 3, "of functions and of buckets; a further one is to be weighed");
}

#[test]
fn every_route_of_the_contract_leads_to_its_function_and_asks_for_iam() {
    let template = Template::read();
    let integrations = template.resources("AWS::ApiGatewayV2::Integration");
    let mut found = BTreeSet::new();
    for (name, route) in template.resources("AWS::ApiGatewayV2::Route") {
        let properties = &route["Properties"];
        let (condition, otherwise) = chosen(&properties["AuthorizationType"]);
        assert_eq!((condition, otherwise), ("TakesTokens", ["JWT", "AWS_IAM"]), "{name}");
        let target = text(&properties["Target"]);
        let integration = target.trim_start_matches("integrations/${").trim_end_matches('}');
        let function = text(&integrations[integration]["Properties"]["IntegrationUri"]);
        found.insert((text(&properties["RouteKey"]).to_owned(), function.trim_end_matches(".Arn").to_owned()));
    }
    let expected = ROUTES.iter().filter(|(route, _)| !route.is_empty());
    let expected: BTreeSet<_> = expected.map(|(r, f)| ((*r).to_owned(), (*f).to_owned())).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_function_is_deployed_from_the_binary_of_its_own_crate() {
    let template = Template::read();
    let functions = template.resources("AWS::Serverless::Function");
    let expected: BTreeSet<&str> = ROUTES.iter().map(|(_, function)| *function).collect();
    assert_eq!(functions.keys().copied().collect::<BTreeSet<_>>(), expected);
    for (name, function) in functions {
        let binary = function["Metadata"]["BuildProperties"]["Binary"].as_str().unwrap();
        let manifest = format!("{}/../../functions/{binary}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        assert!(std::path::Path::new(&manifest).exists(), "{name}: {manifest}");
    }
}

#[test]
fn cargo_builds_only_the_functions_by_itself_so_cargo_lambda_takes_nothing_else_for_one() {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    // In a member's folder, Cargo builds that member by itself.
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let asked = cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).output().unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    let default = metadata["workspace_default_members"].as_array().unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter().filter(|package| default.contains(&package["id"]));
    let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
    let binaries: BTreeSet<&str> = targets
        .filter(|target| target["kind"].as_array().unwrap().contains(&"bin".into()))
        .map(|target| target["name"].as_str().unwrap())
        .collect();
    let template = Template::read();
    let functions = template.resources("AWS::Serverless::Function").into_values();
    let deployed = functions.map(|function| function["Metadata"]["BuildProperties"]["Binary"].as_str().unwrap());
    assert_eq!(binaries, deployed.collect());
}

#[test]
fn the_lock_file_has_our_crc_fast_and_not_the_registrys() {
    // Cargo passes over a patch whose version no dependency asks for, with a warning only.
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).unwrap();
    let packages = lock.split("[[package]]").filter(|package| package.contains("\nname = \"crc-fast\"\n"));
    let sources: Vec<_> = packages.map(|package| package.lines().find(|line| line.starts_with("source"))).collect();
    assert_eq!(sources, [None]);
}
